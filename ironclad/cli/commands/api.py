"""`ironclad api tokens`."""

from __future__ import annotations

from typing import Annotated, Final

import typer

from ironclad.access import tokens as access
from ironclad.access.roles import Role
from ironclad.cli import output, text
from ironclad.cli.installation import opened

app = typer.Typer(rich_markup_mode=None, add_completion=False, no_args_is_help=True)
tokens_app = typer.Typer(rich_markup_mode=None, add_completion=False, no_args_is_help=True)
app.add_typer(tokens_app, name="tokens")

_TOKEN: Final = {
    "id": "Its number.", "label": "What it is called.", "user": "Whose songs and jobs.",
    "role": "submit, read or operate.", "created_at": "When it was made.", "expires_at": "When it ends, or null.",
    "last_used_at": "When it was last used, to the minute, or null.", "revoked_at": "When it was revoked, or null.",
}  # fmt: skip
JSON: Final = {
    "api tokens create": {**_TOKEN, "token": "The secret. It is shown this once."},
    "api tokens list": {"tokens": f"Oldest first, each with {', '.join(_TOKEN)}."},
    "api tokens revoke": _TOKEN,
}
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]


@app.callback()
def api() -> None:
    """Make, list and revoke tokens of the control API."""


@tokens_app.callback()
def tokens() -> None:
    """Make, list and revoke tokens: a program shows one with each request."""


@tokens_app.command(no_args_is_help=True)
def create(
    context: typer.Context,
    *,
    user: Annotated[str, typer.Option("--user", metavar="NAME", help="Whose songs it sends, whose jobs it sees.")],
    role: Annotated[
        Role,
        typer.Option(
            "--role", metavar="ROLE",
            help="submit: own songs and jobs; read: sees everything, changes nothing; operate: everything.",
        ),
    ],
    label: Annotated[
        str, typer.Option("--label", metavar="TEXT", help="What it is called, in lists and in the history of jobs.")
    ] = "",
    expires: Annotated[
        str | None, typer.Option("--expires", metavar="TIME", help="When it ends: in 12h, 90d, or on a date.")
    ] = None,
    as_json: AsJson = False,
) -> None:  # fmt: skip
    """Make a token and print its secret, which is shown this once and kept nowhere."""
    until = None if expires is None else text.parse_until(expires)
    with opened(context, create=True) as installation, installation.database.session() as session:
        token, secret = access.create(session, user_id=user, role=role, label=label, expires_at=until)
        data = access.as_dict(token)
    if as_json:
        output.print_json({**data, "token": secret})
        return
    output.say(secret)
    output.remark(f"Token {data['id']}, {role} for {user}. This was the only time that it is shown.")


@tokens_app.command("list")
def list_tokens(
    context: typer.Context,
    *,
    everything: Annotated[bool, typer.Option("--all", help="Those that were revoked, too.")] = False,
    as_json: AsJson = False,
) -> None:
    """List tokens, never their secrets."""
    with opened(context) as installation, installation.database.session() as session:
        found = access.listed(session, revoked=everything)
    if as_json:
        output.print_json({"tokens": [access.as_dict(token) for token in found]})
        return
    grid = output.Grid(
        ("ID", "LABEL", "USER", "ROLE", "MADE", "ENDS", "LAST USED", "REVOKED"), right=frozenset({"ID"}), wide="LABEL"
    )
    for token in found:
        grid.add(
            token.id, token.label, token.user_id, token.role, text.ago(token.created_at),
            text.ago(token.expires_at) if token.expires_at else "never", text.ago(token.last_used_at),
            text.ago(token.revoked_at),
        )  # fmt: skip
    if grid.rows:
        grid.print()
    else:
        output.say("There is no token.")


@tokens_app.command(no_args_is_help=True)
def revoke(
    context: typer.Context,
    token: Annotated[int, typer.Argument(metavar="ID", min=1, help="Its number; see `ironclad api tokens list`.")],
    *,
    as_json: AsJson = False,
) -> None:
    """Make a token void at once and for good."""
    with opened(context) as installation, installation.database.session() as session:
        data = access.as_dict(access.revoke(session, token))
    if as_json:
        output.print_json(data)
    else:
        output.say(f"Token {data['id']} ({data['label']}) is void.")
