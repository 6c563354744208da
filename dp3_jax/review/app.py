"""The page and what it asks for, over HTTP on this machine alone.

Every request must name this server by an address of this machine, or a page from elsewhere could make a
browser look up its own name here (DNS rebinding), and must carry the token of this run, which only the line
on the console tells. Answers are not kept by the browser, and what the page may load comes from here alone.
"""

import asyncio
import importlib.resources
import json
import secrets
import string
import traceback
from collections.abc import Callable
from concurrent import futures
from typing import Any, NamedTuple

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from dp3_jax.common.errors import UserError
from dp3_jax.review.exporting import Exporter
from dp3_jax.review.pictures import Pictures
from dp3_jax.review.session import Conflict, Session

TOKEN_HEADER = "x-dp3-token"
HOSTS = ("127.0.0.1", "localhost", "[::1]")
_USUAL_PORT = 80
_MAX_BODY = 1 << 16  # bytes of a request
_HEADERS = {
    "content-security-policy": "default-src 'none'; script-src 'self'; style-src 'self'; "
    "img-src 'self' blob:; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "cache-control": "no-store",
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "cross-origin-resource-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
}
_STATIC = {"review.js": "text/javascript", "review.css": "text/css", "icon.svg": "image/svg+xml"}


class Guard:
    """Answers 403 to whatever is not from the page of this run, and adds the headers that keep it so."""

    def __init__(self, app: ASGIApp, token: str, port: int):
        """Takes the application, the token, and the port that is named in addresses."""
        self._app = app
        self._token = token
        self._port = port

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        if scope["type"] != "http":
            return

        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                own = [(name.encode(), value.encode()) for name, value in _HEADERS.items()]
                message = {**message, "headers": [*message["headers"], *own]}
            await send(message)

        request = Request(scope)
        app = self._app if self._is_ours(request) else _forbidden
        await app(scope, receive, with_headers)

    def _is_ours(self, request: Request) -> bool:
        host = request.headers.get("host", "")
        ports = ("",) if self._port == _USUAL_PORT else ()  # which browsers leave out
        ports += (f":{self._port}",)
        named = any(host == name + port for name in HOSTS for port in ports)
        origin = request.headers.get("origin")
        own = origin is None or origin == f"http://{host}"
        given = request.headers.get(TOKEN_HEADER) or request.query_params.get("token", "")
        known = secrets.compare_digest(given.encode(), self._token.encode())
        return bool(named and own and known)


_forbidden = PlainTextResponse(
    "This page needs the address with its token, as dp3 review has printed it.\n", 403
)


class Review(NamedTuple):
    """What is served.

    Attributes:
      session: the review.
      exporter: writes it out.
      folder: what is reviewed, for people.
    """

    session: Session
    exporter: Exporter
    folder: str


def build_app(review: Review, pool: futures.Executor, *, token: str, port: int) -> Guard:
    """The application.

    Args:
      review: what is served.
      pool: in which requests are answered; who ends it waits for those that are not yet.
      token: that every request must carry.
      port: that requests must name as this server's.
    """
    pictures = Pictures(review.session)
    handlers = _Handlers(review, pictures)

    def page(request: Request) -> Response:
        del request
        text = string.Template(_static("index.html")).substitute(token=token)
        return Response(text, media_type="text/html")

    def static(request: Request) -> Response:
        name = request.path_params["file"]
        if name not in _STATIC:
            return PlainTextResponse("there is no such file\n", 404)
        return Response(_static(name), media_type=_STATIC[name])

    def answer(handle: Callable[[Request, Any], Any]) -> Callable:
        return _answer(handle, pool)

    get, post = ["GET"], ["POST"]
    item = "/api/items/{item}"
    routes = [
        Route("/", page, methods=get),
        Route("/static/{file}", static, methods=get),
        Route("/api/session", answer(handlers.session), methods=get),
        Route("/api/export", answer(handlers.exported), methods=get),
        Route("/api/export", answer(handlers.export), methods=post),
        Route(item, answer(handlers.item), methods=get),
        Route(item + "/boxes", answer(handlers.boxes), methods=get),
        Route(item + "/thumb", _picture(pictures.thumb, pool), methods=get),
        Route(item + "/{side:str}/picture", _picture(pictures.picture, pool), methods=get),
        Route(item + "/{action:str}", answer(handlers.act), methods=post),
    ]
    return Guard(Starlette(routes=routes), token, port)


def _static(name: str) -> str:
    return (importlib.resources.files("dp3_jax.review") / "static" / name).read_text("utf-8")


def _answer(handle: Callable[[Request, Any], Any], pool: futures.Executor) -> Callable:
    """JSON of what a function gives; a mistake of the user as a line with status 400, a conflict with 409."""

    async def endpoint(request: Request) -> Response:
        try:
            body = None
            if request.method == "POST":
                content = await request.body()
                if len(content) > _MAX_BODY:
                    raise UserError("the request is too large")
                body = json.loads(content or b"{}")
            return JSONResponse(await _run(pool, handle, request, body))
        except Conflict as error:
            return JSONResponse({"error": str(error)}, 409)
        except UserError as error:
            return JSONResponse({"error": str(error)}, 400)
        except json.JSONDecodeError:
            return JSONResponse({"error": "the request is no JSON"}, 400)
        except Exception as error:
            traceback.print_exc()
            text = f"{type(error).__name__}: {' '.join(str(error).split())} (please report this)"
            return JSONResponse({"error": text}, 500)

    return endpoint


def _picture(make: Callable[[Request], bytes], pool: futures.Executor) -> Callable:
    """The JPEG that a function gives."""

    async def endpoint(request: Request) -> Response:
        try:
            content = await _run(pool, make, request)
        except (UserError, ValueError) as error:
            return JSONResponse({"error": str(error)}, 404)
        return Response(content, media_type="image/jpeg")

    return endpoint


async def _run(pool: futures.Executor, work: Callable, *arguments: Any) -> Any:
    return await asyncio.get_running_loop().run_in_executor(pool, work, *arguments)


class _Handlers:
    """What the page can ask for."""

    def __init__(self, review: Review, pictures: Pictures):
        self._session, self._exporter, self._folder = review
        self._pictures = pictures

    def session(self, request: Request, body: Any) -> Any:
        """All items."""
        del request, body
        return {
            "folder": self._folder,
            "feedback": str(self._session.feedback_path),
            "items": self._session.summary(),
        }

    def item(self, request: Request, body: Any) -> Any:
        """One item, which is looked at now."""
        del body
        self._session.prepare(request.path_params["item"])
        return self._session.describe(request.path_params["item"])

    def boxes(self, request: Request, body: Any) -> Any:
        """Of a video: the boxes of some frames."""
        del body
        first, last = (int(request.query_params[name]) for name in ("first", "last"))
        return self._pictures.boxes(request.path_params["item"], first, last)

    def act(self, request: Request, body: Any) -> Any:
        """A change, a rating, a mark."""
        name, action = request.path_params["item"], request.path_params["action"]
        session = self._session
        match action:
            case "edit":
                return self._drawn_anew(session.edit(name, body), body)
            case "undo" | "redo":
                way = -1 if action == "undo" else 1
                return self._drawn_anew(session.step(name, way, body), body)
            case "rate":
                return session.rate(name, body)
            case "mark":
                return session.mark(name, bool(isinstance(body, dict) and body.get("reviewed")))
            case "anonymize":
                return session.anonymize(name)
        raise UserError(f"there is no action {action}")

    def _drawn_anew(self, done: dict[str, Any], body: Any) -> dict[str, Any]:
        """What was done to an item; if it is a video, the stretch is drawn in the background."""
        self._pictures.changed(done["id"], done["face"], body.get("frame"))
        return done

    def export(self, request: Request, body: Any) -> Any:
        """Begins to write everything out."""
        del request
        return self._exporter.start(bool(isinstance(body, dict) and body.get("only_reviewed")))

    def exported(self, request: Request, body: Any) -> Any:
        """How far that is, and how far stretches of videos are drawn."""
        del request, body
        return {**self._exporter.progress(), "stretches": self._pictures.stretches()}
