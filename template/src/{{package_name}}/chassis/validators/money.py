"""Amounts of money: a decimal number with a currency of ISO 4217, and no more decimals than the currency has."""

from __future__ import annotations

from decimal import Decimal
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator
from pydantic_core import PydanticCustomError

# The active currencies of ISO 4217 (2026), without funds, metals and tests, by their number of decimals.
_DECIMALS = {
    0: "BIF CLP DJF GNF ISK JPY KMF KRW PYG RWF UGX VND VUV XAF XOF XPF",
    2: "AED AFN ALL AMD AOA ARS AUD AWG AZN BAM BBD BDT BMD BND BOB BRL BSD BTN BWP BYN BZD CAD CDF CHF CNY COP CRC CUP"
    " CVE CZK DKK DOP DZD EGP ERN ETB EUR FJD FKP GBP GEL GHS GIP GMD GTQ GYD HKD HNL HTG HUF IDR ILS INR IRR JMD KES"
    " KGS KHR KPW KYD KZT LAK LBP LKR LRD LSL MAD MDL MGA MKD MMK MNT MOP MRU MUR MVR MWK MXN MYR MZN NAD NGN NIO NOK"
    " NPR NZD PAB PEN PGK PHP PKR PLN QAR RON RSD RUB SAR SBD SCR SDG SEK SGD SHP SLE SOS SRD SSP STN SVC SYP SZL THB"
    " TJS TMT TOP TRY TTD TWD TZS UAH USD UYU UZS VED VES WST XCD XCG YER ZAR ZMW ZWG",
    3: "BHD IQD JOD KWD LYD OMR TND",
}
DECIMALS = {code: decimals for decimals, codes in _DECIMALS.items() for code in codes.split()}


def _currency(code: str) -> str:
    if code not in DECIMALS:
        raise PydanticCustomError("money_currency", "This is not a currency of ISO 4217; use the form EUR.")
    return code


def _plain(amount: Decimal) -> Decimal:
    """Return the amount without an exponent: `1E+5` and `0E+999999` are short as text, but long in a column."""
    return amount + 0 if amount else Decimal(0)


class Money(BaseModel):
    """An amount of money, `{"amount": "19.99", "currency": "EUR"}`. The amount is a string in JSON.

    Store it as two columns, `Numeric(18, 4)` and `String(3)`. Binary floating point cannot represent 0.10.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    amount: Annotated[Decimal, Field(max_digits=18, decimal_places=4, allow_inf_nan=False), AfterValidator(_plain)]
    currency: Annotated[str, AfterValidator(_currency), Field(json_schema_extra={"format": "iso-4217"})]

    @model_validator(mode="after")
    def _has_decimals_of_its_currency(self) -> Money:
        decimals, exponent = DECIMALS[self.currency], self.amount.normalize().as_tuple().exponent
        if isinstance(exponent, int) and -exponent > decimals:
            raise PydanticCustomError(
                "money_precision",
                "{currency} has {decimals} decimals.",
                {"currency": self.currency, "decimals": decimals},
            )
        return self

    def __str__(self) -> str:
        return f"{self.amount:.{DECIMALS[self.currency]}f} {self.currency}"
