"""Every answer that is no success: a status, a word for programs, and a sentence for people."""

from __future__ import annotations


class ApiError(Exception):
    """An answer ``{"error": {"code": ..., "message": ...}}``.

    Attributes:
        status: of HTTP.
        code: a word that programs may rely on.
        headers: to send along, such as ``Retry-After``.
    """

    def __init__(self, status: int, code: str, message: str, headers: dict[str, str] | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.message = message
        self.headers = headers

    def body(self) -> dict[str, dict[str, str]]:
        """What is sent."""
        return {"error": {"code": self.code, "message": self.message}}


def not_found(what: str) -> ApiError:
    """404, also for what belongs to somebody else: nobody learns that it exists."""
    return ApiError(404, "not_found", f"there is no such {what}, or it is not yours")
