"""What a sender hears when nothing of its request was taken."""

from collections.abc import Mapping

from pydantic import BaseModel, Field


class Refusal(BaseModel):
    """Answer to a refused request: what is wrong, and where."""

    error: str = Field(description="What is wrong and what to do, for people.")
    reason: str = Field(description="The same in one word, for programs.")
    field: str | None = Field(default=None, description="The sender's name of the field at fault.")
    index: int | None = Field(
        default=None, description="Which report of the array, or which file of the form, from 0."
    )


class Refused(Exception):
    """A request that is not taken; carries the answer."""

    def __init__(
        self, status: int, reason: str, error: str, field: str | None = None, index: int | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:  # fmt: skip
        super().__init__(error)
        self.status, self.reason, self.headers = status, reason, dict(headers or {})
        self.body = Refusal(error=error, reason=reason, field=field, index=index)
