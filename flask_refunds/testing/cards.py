"""Stripe's documented test cards (https://docs.stripe.com/testing).

3D Secure isn't played beyond its first step: a card that requires it leaves the payment intent in
``requires_action``. Radar's checks that depend on an account's settings let the payment succeed.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass


class Cards(str, enum.Enum):
    """The test cards that refunds are mostly tested with, as numbers."""

    SUCCEEDS = "4242424242424242"
    """The payment and its refund succeed at once."""
    REFUND_PENDING = "4000000000007726"
    """The refund is pending, and succeeds later."""
    REFUND_FAILS = "4000000000005126"
    """The refund succeeds, and fails later."""
    DISPUTED = "4000000000000259"
    """The charge is disputed. Stripe refuses the refund."""
    INQUIRY = "4000000000001976"
    """The customer's bank asks about the charge. Refunds are possible."""
    AUTHENTICATION_REQUIRED = "4000002760003184"
    """The payment waits for 3D Secure, and isn't paid."""
    DECLINED = "4000000000000002"
    """The payment is declined."""
    INSUFFICIENT_FUNDS = "4000000000009995"
    """The payment is declined for insufficient funds."""

    __str__ = str.__str__


UNKNOWN_CARD_HELP = (
    f"Use {', '.join(f'Cards.{card.name}' for card in Cards)}, "
    "or another of the test cards that https://docs.stripe.com/testing lists."
)


@dataclass(frozen=True)
class Card:
    """A test card and the outcome of its payments and refunds.

    ``decline_code`` is set if payments are declined. ``dispute`` is the reason of the dispute that follows
    each payment; ``inquiry`` makes it an inquiry. A refund starts in ``refund_status`` and changes to
    ``refund_settles_as`` later, if that is set.
    """

    number: str
    brand: str = "visa"
    decline_code: str | None = None
    dispute: str | None = None
    inquiry: bool = False
    requires_authentication: bool = False
    refund_status: str = "succeeded"
    refund_settles_as: str | None = None


_BY_BRAND = """
visa 4242424242424242 4000056655665556 4000002500001001 4000050360000001 4000051230000072
mastercard 5555555555554444 2223003122003222 5200828282828210 5105105105105100 5555552500001001
mastercard 5555050360000080 5200007840000022 5555558265554449 5200828282828897
amex 378282246310005 371449635398431
discover 6011111111111117 6011000990139424 6011981111111113 6555900000604105
diners 3056930009020004 36227206271667
jcb 3566002020360505 3530111333300000
unionpay 6200000000000005 6200000000000047 6205500000000000004
carnet 5062210000000009
"""
_BY_COUNTRY = """
ar 4000000320000021 br 4000000760000002 ca 4000001240000000 cl 4000001520000001 co 4000001700000003
cr 4000001880000005 ec 4000002180000000 mx 4000004840008001 pa 4000005910000000 py 4000006000000066
pe 4000006040000068 uy 4000008580000003 ae 4000007840000001 at 4000000400000008 be 4000000560000004
bg 4000001000000000 by 4000001120000005 hr 4000001910000009 cy 4000001960000008 cz 4000002030000002
dk 4000002080000001 ee 4000002330000009 fi 4000002460000001 fr 4000002500000003 de 4000002760000016
gi 4000002920000005 gr 4000003000000030 hu 4000003480000005 ie 4000003720000005 it 4000003800000008
lv 4000004280000005 li 4000004380000004 lt 4000004400000000 lu 4000004420000006 mt 4000004700000007
nl 4000005280000002 no 4000005780000007 pl 4000006160000005 pt 4000006200000007 ro 4000006420000001
sa 4000006820000007 si 4000007050000006 sk 4000007030000001 es 4000007240000007 se 4000007520000008
ch 4000007560000009 gb 4000008260000000 gb_debit 4000058260000005 au 4000000360000006
cn 4000001560000002 hk 4000003440000004 in 4000003560000008 jp 4000003920000003 my 4000004580000002
nz 4000005540000008 sg 4000007020000003 tw 4000001580000008 th_credit 4000007640000003
th_debit 4000057640000008
"""
_WITH_A_NAME = """
us 4242424242424242
visa 4242424242424242
visa_debit 4000056655665556
mastercard 5555555555554444
mastercard_debit 5200828282828210
mastercard_prepaid 5105105105105100
amex 378282246310005
amex_threeDSecureNotSupported 378282246310005
discover 6011111111111117
diners 3056930009020004
jcb 3566002020360505
unionpay 6200000000000005
visa_cartesBancaires 4000002500001001
mastercard_cartesBancaires 5555552500001001
visa_debit_eftposAuCoBranded 4000050360000001
mastercard_debit_eftposAuCoBranded 5555050360000080
ae_mastercard 5200007840000022
gb_mastercard 5555558265554449
debit_visaFsaProductCode 4000051230000072
debit_visaHsaProductCode 4000051230000072
mastercard_debit_mastercardFsaProductCode 5200828282828897
pendingRefund 4000000000007726
refundFail 4000000000005126
bypassPending 4000000000000077
bypassPendingInternational 4000003720000278
chargeDeclined 4000000000000002
visa_chargeDeclined 4000000000000002
chargeDeclinedInsufficientFunds 4000000000009995
visa_chargeDeclinedInsufficientFunds 4000000000009995
visa_chargeDeclinedLostCard 4000000000009987
visa_chargeDeclinedStolenCard 4000000000009979
chargeDeclinedExpiredCard 4000000000000069
visa_chargeDeclinedExpiredCard 4000000000000069
chargeDeclinedIncorrectCvc 4000000000000127
visa_chargeDeclinedIncorrectCvc 4000000000000127
chargeDeclinedProcessingError 4000000000000119
visa_chargeDeclinedProcessingError 4000000000000119
chargeDeclinedFraudulent 4100000000000019
visa_chargeDeclinedFraudulent 4100000000000019
visa_chargeDeclinedVelocityLimitExceeded 4000000000006975
chargeCustomerFail 4000000000000341
radarBlock 4100000000000019
riskLevelHighest 4000000000004954
riskLevelElevated 4000000000009235
highFraudDisputeScore 4000008400000407
highEfwScore 4000008400000159
radarDynamicRiskThreshold 4000008400001017
adaptive3dsChallenge 4000008405600003
cvcCheckFail 4000000000000101
cvcCheckFailElevatedRisk 4000058400307872
avsZipFail 4000000000000036
avsZipFailElevatedRisk 4000058400306072
avsLine1Fail 4000000000000028
avsFail 4000000000000010
avsUnchecked 4000000000000044
createDispute 4000000000000259
createDisputeProductNotReceived 4000000000002685
createDisputeInquiry 4000000000001976
createIssuerFraudRecord 4000000000005423
createMultipleDisputes 4000000404000079
createCe3EligibleDispute 4000000404000038
createComplianceDispute 4000008400000779
createMastercardComplianceDispute 5105008400000002
createAutoRepresentmentEligibleDispute 4000000001000043
createRapidDisputeResolutionDispute 4000000404004816
createCe3BlockDispute 4000000404005649
createEthocaAlert 5105000300000018
authenticationRequired 4000002760003184
authenticationRequiredOnSetup 4000002500003155
authenticationRequiredSetupForOffSession 4000003800000446
authenticationRequiredChargeDeclinedInsufficientFunds 4000008260003178
threeDSecure2Required 4000000000003220
threeDSecureRequired 4000000000003063
threeDSecureRequiredChargeDeclined 4000008400001629
threeDSecureRequiredProcessingError 4000008400001280
threeDSecureOptional 4000000000003055
threeDSecureOptionalProcessingError 4000000000003097
"""
_SPECIAL = (
    Card("4000000000007726", refund_status="pending", refund_settles_as="succeeded"),
    Card("4000000000005126", refund_settles_as="failed"),
    Card("4000000000000002", decline_code="generic_decline"),
    Card("4000000000009995", decline_code="insufficient_funds"),
    Card("4000000000009987", decline_code="lost_card"),
    Card("4000000000009979", decline_code="stolen_card"),
    Card("4000000000000069", decline_code="expired_card"),
    Card("4000000000000127", decline_code="incorrect_cvc"),
    Card("4000000000000119", decline_code="processing_error"),
    Card("4000000000006975", decline_code="card_velocity_exceeded"),
    Card("4000000000000341", decline_code="generic_decline"),
    Card("4100000000000019", decline_code="fraudulent"),
    Card("4000000000000259", dispute="fraudulent"),
    Card("4000000000002685", dispute="product_not_received"),
    Card("4000000000001976", dispute="fraudulent", inquiry=True),
    Card("4000000404000079", dispute="fraudulent"),
    Card("4000000404000038", dispute="fraudulent"),
    Card("4000008400000779", dispute="noncompliant"),
    Card("5105008400000002", brand="mastercard", dispute="noncompliant"),
    Card("4000000001000043", dispute="fraudulent"),
    Card("4000000404004816", dispute="fraudulent"),
    Card("4000000404005649", dispute="fraudulent"),
    Card("5105000300000018", brand="mastercard", dispute="fraudulent"),
    Card("4000002760003184", requires_authentication=True),
    Card("4000002500003155", requires_authentication=True),
    Card("4000003800000446", requires_authentication=True),
    Card("4000008260003178", requires_authentication=True),
    Card("4000000000003220", requires_authentication=True),
    Card("4000000000003063", requires_authentication=True),
    Card("4000008400001629", requires_authentication=True),
    Card("4000008400001280", requires_authentication=True),
)


def _payment_methods() -> dict[str, str]:
    words = f"{_BY_COUNTRY} {_WITH_A_NAME}".split()
    return {f"pm_card_{name}": number for name, number in zip(words[::2], words[1::2], strict=True)}


def _cards() -> dict[str, Card]:
    cards = {number: Card(number) for number in PAYMENT_METHODS.values()}
    for line in _BY_BRAND.strip().splitlines():
        brand, *numbers = line.split()
        cards.update({number: Card(number, brand) for number in numbers})
    return cards | {card.number: card for card in _SPECIAL}


PAYMENT_METHODS = _payment_methods()
CARDS = _cards()


def find_card(name: str) -> Card | None:
    """Return the test card with this number, ``pm_card_…`` ID or ``tok_…`` token, or None."""
    if name.startswith("tok_"):
        name = "pm_card_" + name.removeprefix("tok_")
    return CARDS.get(PAYMENT_METHODS.get(name, name))


def has_valid_check_digit(number: str) -> bool:
    """Return whether the digits pass the Luhn check, as every card number does."""
    doubled = [int(digit) * (1 + index % 2) for index, digit in enumerate(reversed(number))]
    return sum(value - 9 if value > 9 else value for value in doubled) % 10 == 0
