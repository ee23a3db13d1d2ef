"""Two-step log-ins, and what asks for a fresh second factor, as clients see it."""

import pytest_asyncio

from raymart_graphql.assurance import SENSITIVE, assurance_of
from raymart_graphql.permissions import Platform
from raymart_graphql.rules import RULES
from raymart_marketplace.accounts.models import OrganizationKind
from support.api_server import Api
from support.devices import BEGIN, COMPLETE, Device

PROVE = "mutation ($code: String!) { confirmSecondFactor(input: {code: $code}) { session { secondFactorAt } userErrors { code } } }"
DISABLE = "mutation ($code: String!) { disableTotp(input: {code: $code}) { disabled userErrors { code } } }"
VIEWER = "{ viewer { hasSecondFactor } }"


@pytest_asyncio.fixture(loop_scope="session")
async def admin(strict_api: Api) -> Device:
    return Device(strict_api, (await strict_api.tenant(OrganizationKind.PLATFORM)).owner)


@pytest_asyncio.fixture(loop_scope="session")
async def device(api: Api) -> Device:
    return await Device(api, (await api.tenant()).owner).enrol()


class TestTwoSteps:
    async def test_password_alone_opens_nothing_any_more(self, device: Device) -> None:
        login = await device.log_in()
        assert login["token"] is None
        assert login["session"] is None
        completed = await device.complete(login["challenge"], device.code())
        assert completed["userErrors"] == []
        assert completed["session"]["secondFactorAt"]
        assert (await device.ask(VIEWER)).data == {"viewer": {"hasSecondFactor": True}}

    async def test_wrong_and_used_codes_are_refused(self, device: Device) -> None:
        challenge = (await device.log_in())["challenge"]
        used = device.code()
        assert (await device.complete(challenge, used))["token"]
        for code in (used, "000000", ""):
            refused = await device.complete(challenge, code)
            assert refused["token"] is None
            assert refused["userErrors"] == [{"code": "INVALID_CREDENTIALS", "field": ["input", "code"]}]

    async def test_guessing_is_throttled(self, device: Device) -> None:
        challenge = (await device.log_in())["challenge"]
        codes = []
        for _ in range(7):
            refused = await device.complete(challenge, "nonsense")
            codes += [error["code"] for error in refused["userErrors"]]
        assert codes == ["INVALID_CREDENTIALS"] * 5 + ["RATE_LIMITED"] * 2
        right = await device.complete(challenge, device.code())
        assert right["userErrors"][0]["code"] == "RATE_LIMITED", "the right one waits too"

    async def test_recovery_code_gets_in_once(self, device: Device) -> None:
        challenge = (await device.log_in())["challenge"]
        assert (await device.complete(challenge, device.recovery_codes[0]))["token"]
        assert (await device.complete(challenge, device.recovery_codes[0]))["token"] is None

    async def test_invented_challenge_is_refused(self, api: Api) -> None:
        refused = (await api(COMPLETE, challenge="rmc_x", code="123456")).data["completeLogin"]
        assert refused["userErrors"] == [{"code": "INVALID_CREDENTIALS", "field": ["input", "challenge"]}]

    async def test_enrolling_ends_the_other_sessions(self, api: Api) -> None:
        person = (await api.tenant()).owner
        elsewhere, here = Device(api, person), Device(api, person)
        await elsewhere.log_in()
        await here.enrol()
        assert (await elsewhere.ask(VIEWER)).code == "UNAUTHENTICATED"
        assert (await here.ask(VIEWER)).data

    async def test_app_is_taken_away_with_a_code_only(self, device: Device) -> None:
        refused = (await device.ask(DISABLE, code="000000")).data["disableTotp"]
        assert refused["userErrors"] == [{"code": "INVALID_CREDENTIALS"}]
        assert (await device.ask(DISABLE, code=device.code())).data["disableTotp"]["disabled"]
        assert (await device.log_in())["token"]

    async def test_open_browser_cannot_enrol_a_strangers_app(self, api: Api) -> None:
        device = Device(api, (await api.tenant()).owner)
        await device.log_in()
        await device.age(minutes=20)
        refused = (await device.ask(BEGIN)).data["beginTotpEnrolment"]
        assert [error["code"] for error in refused["userErrors"]] == ["INVALID"]
        assert "log in again" in refused["userErrors"][0]["message"]


class TestStepUp:
    async def test_money_asks_for_a_second_factor_and_for_a_fresh_one(self, admin: Device) -> None:
        await admin.log_in()
        refused = await admin.grant()
        assert refused.code == "SECOND_FACTOR_REQUIRED"
        assert "confirmSecondFactor" in refused.errors[0]["message"]
        await admin.enrol()
        assert (await admin.grant()).data["grantCredit"]["transfer"]
        await admin.age(minutes=16)
        assert (await admin.grant()).code == "SECOND_FACTOR_REQUIRED"
        assert (await admin.ask(PROVE, code=admin.code())).data["confirmSecondFactor"]["session"]
        assert (await admin.grant()).data["grantCredit"]["transfer"], "with the same token, at once"

    async def test_operators_token_has_none(self, admin: Device) -> None:
        admin.token = admin.person.token
        assert (await admin.grant()).code == "SECOND_FACTOR_REQUIRED"

    async def test_who_may_not_anyway_is_told_that(self, strict_api: Api) -> None:
        stranger = Device(strict_api, (await strict_api.tenant()).owner)
        await stranger.log_in()
        assert (await stranger.grant()).code == "FORBIDDEN"

    async def test_reading_asks_for_none(self, admin: Device) -> None:
        await admin.log_in()
        assert (await admin.ask("{ trialBalance { balanced } }")).data["trialBalance"]

    def test_every_mutation_of_the_platforms_people_asks_for_it(self) -> None:
        asking = set()
        for name, rule in RULES.items():
            assurance = assurance_of(name, rule)
            if assurance is not None and assurance._needs_second_factor:
                asking.add(name)
        platforms = {
            name
            for name, rule in RULES.items()
            if isinstance(rule, Platform) and name.startswith("Mutation.")
        }
        assert asking == platforms | SENSITIVE
        assert {
            "Mutation.grantCredit",
            "Mutation.refundDeposit",
            "Mutation.setPriceCap",
            "Mutation.voidInvoice",
        } <= asking
        assert set(RULES) >= SENSITIVE
