"""What a person or a program reads about a run: one model, several renderings."""
