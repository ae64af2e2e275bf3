"""The keys of a REST API as a source: where it is, how it is asked, its tables, and how each gives its pages."""

from mappings import texts
from mappings.shapes import Key, Section, choice, many, named, number, text, whole

_PATH_IN_BODY = "a path, as in data/items"
_NAME_OF_PARAMETER = text("a parameter's name", texts.not_empty)

PAGES = Section(
    "The pages of an API's table",
    "How the API divides what it has into pages, as its documentation says. docs/rest.md says more.",
    (
        Key(
            "by",
            choice("page", "offset", "cursor", "link", "none"),
            "`page`: by number, until a page is empty or `total` is reached. `offset`: the same, counted in items. `cursor`: by "
            'what the page says at `next`, until it says nothing. `link`: by the URL in the header `Link: <…>; rel="next"`, '
            "or at `next`. `none`: all is one page.",
            required=True,
        ),
        Key(
            "param",
            _NAME_OF_PARAMETER,
            "The parameter that takes the page's number, the offset or the cursor.",
            "`page`, `offset`, `cursor`",
        ),
        Key("size_param", _NAME_OF_PARAMETER, "The parameter that takes the size of a page.", "none is sent"),
        Key(
            "size",
            whole("a whole number of at least 1", least=1),
            "The size of a page, sent as `size_param`.",
            "as the API has it",
        ),
        Key("start", whole(), "The first page's number, or the first offset.", "page 1, offset 0"),
        Key(
            "next",
            text(_PATH_IN_BODY, texts.not_empty),
            "Where in the body the next cursor or URL stands.",
            "the header Link",
        ),
        Key(
            "hosts",
            many(text("a host", texts.not_empty), "a host or a list of hosts"),
            "Other hosts that a link may lead to. They are sent no headers.",
            "the API's own",
        ),
    ),
)

RESOURCE = Section(
    "A table of an API",
    "A GET whose pages hold the rows: a list of objects. Lists within these are tables as well: `orders/lines`.",
    (
        Key("path", text("a path, as in orders", texts.anything), "The path behind the API's URL.", required=True),
        Key(
            "records",
            text(_PATH_IN_BODY, texts.not_empty),
            "Where in the body the list of items stands.",
            "the body is the list",
        ),
        Key(
            "params",
            named(text("a text", references=True), "a mapping of parameter to text", texts.not_empty),
            "What is asked for with every page: `{status: all, sort: id}`.",
            "none",
        ),
        Key("pages", PAGES.shape, "How the items are divided into pages.", "all is one page"),
        Key(
            "total",
            text("a path, as in meta/total, or header", texts.not_empty),
            "Where in the body the number of all items stands; `header`: in X-Total-Count. Other than so many rows are an error.",
            "nobody counts",
        ),
        Key(
            "key",
            many(text("a path, as in id", texts.not_empty), "a path or a list of paths"),
            "What identifies an item: one that an earlier page had already, with the same content, is no row.",
            "every item is a row",
        ),
    ),
    words="a mapping with `path`",
)

OAUTH = Section(
    "A token for an API",
    "OAuth 2 with client credentials: a token is fetched, and renewed before it ends or when the API refuses it.",
    (
        Key("token_url", text("a URL", texts.webhook, references=True), "Where tokens are given.", required=True),
        Key("client_id", text("a text", texts.not_empty, references=True), "Who asks.", required=True),
        Key(
            "client_secret",
            text("a text", texts.not_empty, secret=True, references=True),
            "What proves it: best kept in the environment, `${env:CLIENT_SECRET}`.",
            required=True,
        ),
        Key(
            "scope", text("a text", texts.not_empty, references=True), "What the token is for.", "as the server has it"
        ),
    ),
)

API = Section(
    "A source that is a REST API",
    "A documented, paginated GET that answers with JSON. What it answers is recorded once, and read from the recording from then "
    "on; removing the recording's folder fetches again.",
    (
        Key(
            "rest",
            text("a URL", texts.api_url, references=True),
            "The API's URL, with what all paths begin with: `https://api.example.com/v2`.",
            required=True,
        ),
        Key(
            "tables",
            named(RESOURCE.shape, "a mapping of table to where it is", texts.resource, least=1),
            "The tables of the API, by a name that you choose.",
            required=True,
        ),
        Key(
            "headers",
            named(text("a text", secret=True, references=True), "a mapping of header to text", texts.header),
            'What is sent with each request: `{Authorization: "Bearer ${env:API_TOKEN}"}`. Kept out of every message.',
            "none",
        ),
        Key("oauth", OAUTH.shape, "How a token is come by, instead of such a header.", "no token"),
        Key(
            "record",
            text("a folder", texts.not_empty),
            "Where the pages are recorded, from the project file's folder: a folder for each table in it.",
            "`recorded/` and the source's name",
        ),
        Key(
            "requests_per_second",
            number("a number above 0, up to 1000", 0.001, 1000),
            "At most so many requests are made in a second.",
            "as many as the API answers",
        ),
    ),
    words="a mapping with `rest`",
)
