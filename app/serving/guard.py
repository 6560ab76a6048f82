"""Who is answered, and with which headers: by a token, once in the URL and then in a cookie, or by local names only."""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
from urllib.parse import parse_qsl, urlencode, urlsplit

import flask
from werkzeug.exceptions import HTTPException

from .. import shell
from .downloads import refuse

LARGEST_BODY = 4 << 20  # bytes of a request: a callback of this app sends some hundred
HEALTH = "/healthz"


def protect(server: flask.Flask, script_hashes: list[str], token: str = "", *, local: bool = False) -> None:
    """Security headers on every answer, nothing for strangers, a sentence for what is broken.

    Args:
        server: the web application, before its first request.
        script_hashes: of the inline scripts that the policy lets run.
        token: the secret that a reader has to know; empty: none.
        local: answer only requests that name this machine (localhost, a loopback address), so that no page of another
            site can reach the app through a name of its own that resolves to this machine.
    """
    server.config["MAX_CONTENT_LENGTH"] = LARGEST_BODY
    headers = _headers(script_hashes)

    @server.before_request
    def admit() -> flask.Response | None:
        path = flask.request.path
        if path == HEALTH:
            return None
        if token and (answer := _without_token(token)) is not None:
            return answer
        if local and not is_local(host_name(flask.request.host)):
            return refuse("this dashboard answers to localhost only; another name needs a server with --token", 403)
        return None

    @server.after_request
    def secure(response: flask.Response) -> flask.Response:
        for name, value in headers.items():
            response.headers.setdefault(name, value)
        return response

    @server.errorhandler(Exception)
    def broken(error: Exception) -> flask.Response | HTTPException:
        if isinstance(error, HTTPException):
            return error if (error.code or 500) < 400 else refuse(error.name.lower(), error.code or 500)
        if "_dash-component-suites" in flask.request.path:  # Dash raises for files that it does not have
            return refuse("not found")
        if flask.request.method == "POST":  # every callback guards its own faults: what is left is the request's
            shell.log.warning("a request that is no callback's: %s: %s", type(error).__name__, str(error)[:200])
            return refuse("the request was not understood", 400)
        shell.log.exception("%s could not be answered", flask.request.path)
        return refuse("this could not be answered; the server's log says why", 500)

    @server.get(HEALTH)
    def health() -> flask.Response:
        return flask.Response("OK\n", content_type="text/plain")


def _headers(script_hashes: list[str]) -> dict[str, str]:
    policy = [
        "default-src 'self'", " ".join(["script-src 'self'", *script_hashes]),
        "style-src 'self' 'unsafe-inline'", "img-src 'self' data: blob:", "worker-src blob:", "connect-src 'self'",
        "object-src 'none'", "base-uri 'self'", "form-action 'self'", "frame-ancestors 'none'",
    ]  # fmt: skip
    return {
        "Content-Security-Policy": "; ".join(policy),
        "X-Content-Type-Options": "nosniff",
        "X-Frame-Options": "DENY",
        "Referrer-Policy": "no-referrer",
        "Cross-Origin-Opener-Policy": "same-origin",
        "Cross-Origin-Resource-Policy": "same-origin",
        "Permissions-Policy": "camera=(), microphone=(), geolocation=()",
    }


# ------------------------------------------------------------------ the token


def cookie_name(token: str) -> str:
    """One name a token, because the ports of a machine share their cookies."""
    return f"landscape-{hashlib.sha256(token.encode()).hexdigest()[:8]}"


def _same(given: str, token: str) -> bool:
    return hmac.compare_digest(given.encode("utf-8", "replace"), token.encode())


def _without_token(token: str) -> flask.Response | None:
    """None for who has the cookie; the cookie and the same address without the token for who has the token."""
    request = flask.request
    given = request.args.get("token", "")
    if given and _same(given, token):
        query = [(k, v) for k, v in parse_qsl(request.query_string.decode("ascii", "replace")) if k != "token"]
        target = "/" + request.full_path.partition("?")[0].lstrip("/")  # '//host' would lead to another host
        response = flask.redirect(request.script_root + target + ("?" + urlencode(query) if query else ""), 303)
        response.set_cookie(cookie_name(token), token, httponly=True, samesite="Lax", secure=request.is_secure)
        response.headers["Cache-Control"] = "no-store"
        return _plain(response)
    if _same(request.cookies.get(cookie_name(token), ""), token):
        return None
    return refuse("this dashboard asks for a token: open the address that `landscape dashboard` printed", 401)


def _plain(response: object) -> flask.Response:
    assert isinstance(response, flask.Response)
    return response


# ------------------------------------------------------------------ names of this machine


def host_name(host: str) -> str:
    """The name in a Host header, without its port."""
    try:
        return urlsplit(f"//{host}").hostname or ""
    except ValueError:
        return ""


def is_local(name: str) -> bool:
    """Whether a name or an address means this machine itself."""
    if name == "localhost" or name.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False
