"""The pages' addresses, and the server behind `perturb web`.

GET /                              the first page
GET /rounds/N                      one of the latest rounds
GET /pictures/N/UID/KIND.png       clean, adversarial or difference
GET /overview.json                 what the pages are made of
GET /style.css  /icon.svg          files of the package
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from http import HTTPStatus
from importlib.resources import files

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp

from perturbnet.errors import PerturbError, PortInUse
from perturbnet.overview import Overview, RoundView, encode_overview
from perturbnet.telemetry.loopback import HOST, allowed_hosts
from perturbnet.transport.connections import bind
from perturbnet.web.guard import Guard
from perturbnet.web.pages import render_error, render_home, render_round
from perturbnet.web.pictures import KINDS, Pictures
from perturbnet.web.viewer import Viewer

MAX_REQUESTS = 32
FILES = {"style.css": "text/css", "icon.svg": "image/svg+xml"}


class NotShown(PerturbError):
    """There is no such page, or no more."""


def build_app(viewer: Viewer, pictures: Pictures, *, port: int) -> ASGIApp:
    """The application, guarded for `port`."""

    def home(_: Request) -> Response:
        return HTMLResponse(render_home(viewer.overview(), pictures))

    def one_round(request: Request) -> Response:
        overview = viewer.overview()
        found = find_round(overview, request.path_params["number"])
        return HTMLResponse(render_round(overview, found, pictures))

    def picture(request: Request) -> Response:
        number, uid, kind = (request.path_params[name] for name in ("number", "uid", "kind"))
        found = find_round(viewer.overview(), number)
        answer = next((one for one in found.answers if one.uid == uid), None)
        if answer is None or kind not in KINDS:
            raise NotShown(f"no picture {kind!r} of uid {uid} in round {number}")
        return Response(pictures.make(found, answer).pngs[kind], media_type="image/png")

    def overview_json(_: Request) -> Response:
        return Response(encode_overview(viewer.overview()), media_type="application/json")

    pages: dict[str, Callable[[Request], Response]] = {
        "/": home,
        "/rounds/{number:int}": one_round,
        "/pictures/{number:int}/{uid:int}/{kind}.png": picture,
        "/overview.json": overview_json,
        **{f"/{name}": partial(_file, name) for name in FILES},
    }
    routes = [Route(path, page, methods=["GET"]) for path, page in pages.items()]
    app = Starlette(routes=routes)
    app.add_exception_handler(PerturbError, _failed)  # type: ignore[arg-type]  # only those reach it
    app.add_exception_handler(HTTPStatus.NOT_FOUND, _no_such_page)
    return Guard(app, allowed_hosts(port))


def find_round(overview: Overview, number: int) -> RoundView:
    """One of the latest rounds.

    Raises:
        NotShown: it is not among them.

    """
    found = next((one for one in overview.latest if one.number == number), None)
    if found is None:
        shown = ", ".join(str(one.number) for one in overview.latest) or "none yet"
        raise NotShown(f"round {number} is not among the latest", hint=f"shown are {shown}")
    return found


def serve(viewer: Viewer, pictures: Pictures, *, port: int, ready: Callable[[int], None]) -> None:
    """Serve on loopback until Ctrl-C or SIGTERM; `ready` is told the port once it is had (0: any free one).

    Raises:
        PortInUse: another process has it.

    """
    try:
        bound = bind(HOST, port)
    except PortInUse as error:
        raise PortInUse(error.message, hint="name another with --port; 0 takes any") from None
    taken: int = bound.getsockname()[1]
    config = uvicorn.Config(
        build_app(viewer, pictures, port=taken),
        http="h11",
        ws="none",
        lifespan="off",
        access_log=False,
        log_config=None,
        server_header=False,
        date_header=False,
        proxy_headers=False,
        limit_concurrency=MAX_REQUESTS,
        timeout_keep_alive=5,
        timeout_graceful_shutdown=1,
    )
    ready(taken)
    uvicorn.Server(config).run(sockets=[bound])


def _file(name: str, _: Request) -> Response:
    data = files("perturbnet.web").joinpath("templates", name).read_bytes()
    return Response(data, media_type=FILES[name], headers={"Cache-Control": "max-age=3600"})


def _failed(request: Request, error: PerturbError) -> Response:
    """What went wrong, in a sentence; a feed that does not answer is 503, what is not there 404."""
    missing = isinstance(error, NotShown) or "/pictures/" in request.url.path
    status = HTTPStatus.NOT_FOUND if missing else HTTPStatus.SERVICE_UNAVAILABLE
    title = "Not shown" if missing else "Nothing to show"
    return HTMLResponse(render_error(title, error), status)


def _no_such_page(_: Request, __: Exception) -> Response:
    error = PerturbError("there is no such page", hint="the first page has links to all others")
    return HTMLResponse(render_error("Not shown", error), HTTPStatus.NOT_FOUND)
