"""The page of the named queries says what their headers say."""

from deploy import query_page
from schemas.queries import load_queries


def test_the_page_is_as_the_headers_are_now() -> None:
    fresh = query_page.page(load_queries(), query_page.tiles())
    found = query_page.PAGE.read_text(encoding="utf-8")
    assert found == fresh, "run `quanyu tables queries`"


def test_the_page_tells_of_each_query_its_block_parameters_and_what_it_opens() -> None:
    text = query_page.page(load_queries(), query_page.tiles())
    for name, query in load_queries().items():
        part = text.partition(f"\n## {name}\n")[2].partition("\n## ")[0]
        assert query.meaning in part
        assert all(
            f"| `{parameter.name}` | {parameter.type} |" in part for parameter in query.parameters
        )
        assert all(
            f"- `{drill.column}` opens [{drill.query}]" in part for drill in query.drill_down
        )
    assert "| [ranking](#ranking) | 1+16+214 | 分 | 60 s | block `ranking` |" in text
    assert "| [order_steps](#order_steps) | 工单流转 | 行 | 2 s | private |" in text
