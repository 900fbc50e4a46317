"""The channels of the settings, opened: each by the kind of notifier that its `type` names."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ironclad.errors import ConfigError, IroncladError
from ironclad.notify.contract import Channel
from ironclad.notify.redaction import redacted
from ironclad.notify.through_apprise import AppriseKind
from ironclad.plugins.manager import PluginManager, selection

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ironclad.notify.contract import Notifier, NotifierKind
    from ironclad.sections import ChannelSettings, NotifySettings


def kinds(settings: NotifySettings, plugins: PluginManager | None = None) -> Mapping[str, NotifierKind]:
    """Every kind of notifier by its name; plugins are loaded only if a channel needs one."""
    found: dict[str, NotifierKind] = {"apprise": AppriseKind()}
    if all(channel.type in found for channel in settings.channels.values()):
        return found
    manager = plugins or PluginManager(selection())
    manager.load_all()
    for _plugin, answer in manager.collect("ironclad_notifiers"):
        for kind in answer:
            found.setdefault(kind.name, kind)
    return found


def uncovered(name: str, channel: ChannelSettings) -> Channel:
    """A channel with its secrets, for a notifier only."""
    return Channel(
        name, channel.type, channel.url.get_secret_value() if channel.url else "",
        channel.secret.get_secret_value() if channel.secret else "", dict(channel.options), channel.timeout_seconds,
    )  # fmt: skip


def opened(name: str, channel: ChannelSettings, known: Mapping[str, NotifierKind]) -> Notifier:
    """The channel's notifier. Raises `ConfigError` without secrets in it."""
    kind = known.get(channel.type)
    if kind is None:
        raise ConfigError(
            f"notify.channels.{name}.type is {channel.type!r}; there is {', '.join(sorted(known))}. "
            "See `ironclad plugins list`."
        )
    given = uncovered(name, channel)
    try:
        return kind.open(given)
    except IroncladError:
        raise
    except Exception as exc:  # noqa: BLE001 - whatever a plugin raises
        raise ConfigError(f"notify.channels.{name}: {redacted(f'{type(exc).__name__}: {exc}', given)}") from None
