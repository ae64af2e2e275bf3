"""Functions of our own: each takes whole columns and returns one of the same length."""

import pandas as pd


def shout(text: pd.Series) -> pd.Series:
    return text.str.upper()
