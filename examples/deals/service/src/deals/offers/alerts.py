"""Alerts about good offers by email, Discord and SMS: each is sent once, after the offer is stored."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path

from ..chassis.app import Chassis
from ..chassis.notifications.asyncio import notify
from ..chassis.notifications.templates import Templates
from ..settings import Settings
from .models import Offer
from .repository import OfferRepository

TEMPLATES = Templates(Path(__file__).with_name("templates"))


def alert_with(chassis: Chassis, offers: OfferRepository) -> Callable[[Offer], Awaitable[object]]:
    """Return a function that reports an offer in the unit of work of a repository."""
    settings = chassis.settings_as(Settings)

    async def alert(offer: Offer) -> object:
        message = TEMPLATES.message("offer", email=settings.alert_email, phone=settings.alert_phone, offer=offer)
        return await notify(chassis, message, key=f"offer-{offer.marketplace_id}", session=offers.session)

    return alert
