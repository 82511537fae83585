"""SQL of a client may not reach files, other hosts or programs, however it is written."""

import pytest

from deploy.local.guard import Guard, RefusedError

GUARD = Guard(
    functions=frozenset({"file", "url", "remote", "s3", "executable", "eval", "python"}),
    engines=frozenset({"file", "url", "filesystem", "mysql"}),
)


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT * FROM file('/etc/passwd', 'LineAsString')",
        "SELECT file('/etc/passwd')",
        "SELECT * FROM FiLe ( '/etc/passwd')",
        "SELECT * FROM file/* */('/etc/passwd')",
        "SELECT * FROM `file`('/etc/passwd')",
        "SELECT * FROM \"file\"('/etc/passwd')",
        "SELECT * FROM “file”('/etc/passwd')",
        "SELECT '\\'' , file('/etc/passwd')",
        "SELECT '''', file('/etc/passwd')",
        "SELECT \"'\", file('/etc/passwd'), \"'\"",
        "SELECT 1 -- '\n, file('/etc/passwd')",
        "SELECT 1 # '\n, file('/etc/passwd')",
        "SELECT 1 // '\n, file('/etc/passwd')",
        "SELECT 1 /* ' */, file('/etc/passwd') -- '",
        "SELECT 1 /* /* */ ' */, file('/etc/passwd') -- '",
        "SELECT 1 AS a$x$, ' $x$, file('/etc/passwd') -- '",
        "SELECT $x$ ' $x$, file('/etc/passwd') -- '",
        "SELECT * FROM `fi\\x6ce`('/etc/passwd')",
        "SELECT * FROM eval('SELECT 1')",
        "SELECT 1 INTO OUTFILE '/tmp/x'",
        "INSERT INTO t FROM INFILE '/etc/passwd' FORMAT LineAsString",
        "INSERT INTO FUNCTION file('/tmp/x', 'CSV') SELECT 1",
        "INSERT INTO t VALUES (file('/etc/passwd'))",
        "CREATE TABLE t (a String) ENGINE = File(CSV, '/etc/passwd')",
        "CREATE TABLE t (a String) ENGINE File(CSV)",
        "CREATE TABLE t AS url('http://localhost/', CSV)",
        "CREATE DATABASE d ENGINE = Filesystem('/')",
        "CREATE DICTIONARY d (a String) PRIMARY KEY a SOURCE(FILE(path '/etc/passwd'))",
        "BACKUP TABLE t TO File('/tmp/x')",
        "SYSTEM SHUTDOWN",
        "SET max_threads = 1",
        "USE other",
        "SELECT 1; DROP TABLE t",
        "SELECT 'no end",
        "",
        " ; ",
    ],
)
def test_sql_that_could_reach_outside_is_refused(sql: str) -> None:
    with pytest.raises(RefusedError, match=r"Code: \d+\. DB::Exception: "):
        GUARD.check(sql)


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT 'file(''/etc/passwd'')', 'a;b', '$5', 'INTO OUTFILE'",
        "SELECT url, file FROM pages WHERE url IN ('a', 'b')",
        "SELECT engine FROM system.tables WHERE engine = 'File'",
        "SELECT {a:String} -- it's a comment; really\n;",
        "SELECT count() FROM numbers(10)",
        "CREATE TABLE `a b`.t (url String) ENGINE = ReplacingMergeTree(v) ORDER BY url",
        "CREATE MATERIALIZED VIEW v TO t AS SELECT engine FROM system.tables",
        "INSERT INTO t (remote) VALUES ('a;b'), ('--')",
    ],
)
def test_ordinary_sql_passes(sql: str) -> None:
    GUARD.check(sql)


def test_what_only_reads_is_told_from_what_writes() -> None:
    assert GUARD.check("/* a */ WITH 1 AS x SELECT x").reads
    assert not GUARD.check("INSERT INTO t SELECT 1").reads


@pytest.mark.parametrize(
    ("sql", "format"),
    [
        ("SELECT 1 FORMAT JSON", "JSON"),
        ("SELECT 1 format Native;", "Native"),
        ("SELECT 1 FORMAT CSV SETTINGS max_threads = 1", "CSV"),
        ("SELECT 'x FORMAT JSON'", None),
        ("SELECT 1 -- FORMAT JSON", None),
        ("SELECT format FROM t", None),
    ],
)
def test_the_format_that_the_query_names_is_known(sql: str, format: str | None) -> None:
    assert GUARD.check(sql).format == format
