"""Scopes of FastAPI routes, which the OpenAPI document shows: `dependencies=[require_scope("notes:write")]`."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Sequence
from itertools import chain
from typing import Any

from fastapi import FastAPI, Request, Response, Security
from fastapi.encoders import jsonable_encoder
from fastapi.routing import APIRoute
from fastapi.security import HTTPBearer, SecurityScopes

from ..app import Chassis
from ..request_context import Principal
from . import authorize

_SCHEME = "bearer"


class _Bearer(HTTPBearer):
    """Describes the credentials in the OpenAPI document. The middleware has checked them already."""

    async def __call__(self, required: SecurityScopes) -> Principal:  # type: ignore[override]  # WebSockets have no request
        return authorize(*required.scopes)


_bearer = _Bearer(scheme_name=_SCHEME, description="An API key or an access token.")


def require_scope(*scopes: str) -> Any:
    """Return a dependency that requires these scopes, or only valid credentials if none is given.

    Add it to the `dependencies` of a route or a router. To use the caller in a handler, declare a parameter
    `caller: Annotated[Principal, require_scope("notes:write")]`.
    """
    return Security(_bearer, scopes=scopes)


class ScopedRoute(APIRoute):
    """A route that checks the scopes in its `dependencies` before FastAPI reads the body and calls other dependencies.

    Use it as the `route_class` of a router. FastAPI needs more CPU time to call a dependency than the check of the
    credentials takes.
    """

    def __init__(
        self, path: str, endpoint: Callable[..., Any], *, dependencies: Sequence[Any] | None = None, **options: Any
    ) -> None:
        required = [item for item in dependencies or () if item.dependency is _bearer]
        others = [item for item in dependencies or () if item.dependency is not _bearer]
        self._scopes = tuple(dict.fromkeys(scope for item in required for scope in item.scopes)) if required else None
        if self._scopes is not None:
            security = {"security": [{_SCHEME: list(self._scopes)}]}
            options["openapi_extra"] = security | (options.get("openapi_extra") or {})
        super().__init__(path, endpoint, dependencies=others, **options)

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handle, scopes = super().get_route_handler(), self._scopes
        if scopes is None:
            return handle

        async def authorized(request: Request) -> Response:
            authorize(*scopes)
            return await handle(request)

        return authorized


def install(_chassis: Chassis) -> None:
    """Do nothing, because the middleware checks the credentials. Every feature must have this function."""


def document(app: FastAPI) -> None:
    """Add the security scheme to the OpenAPI document, and merge the scopes of each operation.

    A caller needs all scopes, but the entries of `security` in OpenAPI are alternatives.
    """
    build_document = app.openapi

    def openapi() -> dict[str, Any]:
        built = build_document()
        scheme = jsonable_encoder(_bearer.model, exclude_none=True)
        built.setdefault("components", {}).setdefault("securitySchemes", {})[_SCHEME] = scheme
        for operation in (operation for path in built["paths"].values() for operation in path.values()):
            lists = [required[_SCHEME] for required in operation.get("security", ()) if _SCHEME in required]
            if len(lists) > 1:
                others = [required for required in operation["security"] if _SCHEME not in required]
                operation["security"] = [*others, {_SCHEME: list(dict.fromkeys(chain(*lists)))}]
        return built

    app.openapi = openapi  # type: ignore[method-assign]  # https://fastapi.tiangolo.com/how-to/extending-openapi/
