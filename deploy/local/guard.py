"""What SQL of a client the embedded engine may run: nothing that names files, hosts or programs.

The engine in this process may do all that this process may do, and it has no users to forbid it.
So the text is cut into the engine's own tokens, and functions and table engines that reach outside
are refused: all that the engine knows but those listed here as harmless.
"""

import re
from dataclasses import dataclass
from typing import Any

#: Table functions that only compute or read tables of the engine.
HARMLESS_FUNCTIONS = frozenset(
    {
        *("numbers", "numbers_mt", "zeros", "zeros_mt", "primes", "values", "sqlstandardvalues"),
        *("null", "generaterandom", "generateseries", "generate_series", "format", "merge", "view"),
        *("viewifpermitted", "viewexplain", "loop", "dictionary", "mergetreeindex"),
        *("mergetreeprojection", "mergetreeanalyzeindexes"),
    }
)
#: Scalar functions that read files or run programs.
HARMFUL_SCALARS = frozenset({"file", "executable", "catboostevaluate"})
#: Engines that keep their data in the engine's own folder or nowhere.
HARMLESS_ENGINES = re.compile(
    r"(?!replicated)\w*mergetree|memory|null|log|tinylog|stripelog|set|join|buffer|merge|view|"
    r"materializedview|alias|generaterandom|dictionary|atomic"
)
READING = frozenset({"select", "with", "show", "describe", "desc", "exists", "explain", "("})
#: First words of statements that name files, or that need a session.
FORBIDDEN = {
    "backup": "it names files",
    "restore": "it names files",
    "set": "there are no sessions: give settings in the URL or in a SETTINGS clause",
    "use": "there are no sessions: give database= in the URL or qualify the table",
}
#: Quotes without an end; and $, which may begin a string of its own kind or be part of a word.
UNCLEAR = frozenset("'\"`$‘“")
TOKEN = re.compile(
    r"""(?P<string>'(?:[^'\\]|\\.|'')*'|‘[^’]*’)
    |(?P<quoted>`(?:[^`\\]|\\.|``)*`|"(?:[^"\\]|\\.|"")*"|“[^”]*”)
    |(?P<comment>--[^\n]*|\#[ !][^\n]*|//[^\n]*|/\*.*?\*/)
    |(?P<word>[A-Za-z0-9_]+)
    |(?P<other>\S)""",
    re.DOTALL | re.VERBOSE,
)


class RefusedError(Exception):
    """A request that a server would answer with an exception of its own."""

    def __init__(self, code: int, name: str, message: str) -> None:
        super().__init__(f"Code: {code}. DB::Exception: {message} ({name})")
        self.code = code


@dataclass(frozen=True, slots=True)
class Checked:
    """What is known of a statement that may run: whether it only reads, and its FORMAT if named."""

    reads: bool
    format: str | None


@dataclass(frozen=True, slots=True)
class Guard:
    """Names, in lower case, that an engine knows and that reach outside."""

    functions: frozenset[str]
    engines: frozenset[str]

    @classmethod
    def of(cls, connection: Any) -> "Guard":
        """Ask an engine what it knows, so that a newer one's new functions are refused too."""
        functions = names(connection, "system.table_functions") - HARMLESS_FUNCTIONS
        known = names(connection, "system.table_engines") | names(
            connection, "system.database_engines"
        )
        engines = {name for name in known if not HARMLESS_ENGINES.fullmatch(name)}
        return cls(frozenset(functions | HARMFUL_SCALARS), frozenset(engines))

    def check(self, sql: str) -> Checked:
        """Raise :class:`RefusedError` for what must not run, and for more than one statement."""
        tokens = tokenise(sql)
        while tokens and tokens[-1] == ";":
            tokens.pop()
        if not tokens:
            raise RefusedError(62, "SYNTAX_ERROR", "Syntax error: Empty query")
        lower = [token.lower() for token in tokens]
        if lower[0] in FORBIDDEN:
            raise RefusedError(
                497, "ACCESS_DENIED", f"{tokens[0]} is not allowed here: {FORBIDDEN[lower[0]]}"
            )
        creates = lower[0] in ("create", "attach", "replace", "alter")
        # "ENGINE = X" and "ENGINE X" are the same.
        words = [w for i, w in enumerate(lower) if not (w == "=" and lower[i - 1] == "engine")]
        for here, follows in zip(words, [*words[1:], ""], strict=True):
            outside = (
                here in ("infile", "outfile")
                or (follows == "(" and here in self.functions)
                or (creates and here == "engine" and follows in self.engines)
                or (here == "system" and follows in ("shutdown", "kill", "suspend"))
                or (here == "create" and follows in ("temporary", "dictionary"))
            )
            if outside:
                name = follows if here in ("engine", "system", "create") else here
                raise RefusedError(
                    497, "ACCESS_DENIED", f"{name} is not allowed through this interface"
                )
        if ";" in tokens:
            raise RefusedError(62, "SYNTAX_ERROR", "Multi-statements are not allowed")
        return Checked(lower[0] in READING, named_format(tokens))


def names(connection: Any, table: str) -> set[str]:
    """Lower-case names in a system table."""
    listed = connection.query(f"SELECT lower(name) FROM {table}", "TSV")  # noqa: S608 # own names
    return set(listed.bytes().decode().split())


def tokenise(sql: str) -> list[str]:
    """Words, quoted identifiers without quotes and punctuation; a string is '', a comment nothing.

    Refuses what the engine's lexer might cut elsewhere than we do: a text whose strings begin where
    we see none could hide anything.
    """
    tokens = []
    for found in TOKEN.finditer(sql):
        token = found.group()
        match found.lastgroup:
            case "string":
                tokens.append("''")
            case "quoted":
                if "\\" in token:
                    raise RefusedError(62, "SYNTAX_ERROR", f"backslash in the identifier {token}")
                tokens.append(token[1:-1])
            case "comment":
                if token.startswith("/*") and "/*" in token[2:]:
                    raise RefusedError(62, "SYNTAX_ERROR", "a comment inside a comment")
            case _:
                if token in UNCLEAR:
                    raise RefusedError(62, "SYNTAX_ERROR", f"{token} at position {found.start()}")
                tokens.append(token)
    return tokens


def named_format(tokens: list[str]) -> str | None:
    """The name after the last FORMAT, if the statement ends with it or with SETTINGS after it."""
    for index in range(len(tokens) - 2, 0, -1):
        if tokens[index].upper() == "FORMAT":
            rest = tokens[index + 2 :]
            if not rest or rest[0].upper() == "SETTINGS":
                return tokens[index + 1]
    return None
