"""Promise: the code holds the URL, whole, and is safe to put into a page."""

import re
from xml.etree import ElementTree as ET

import segno
from solders.keypair import Keypair

from raymart_billing.usdc_deposits import qr
from raymart_billing.usdc_deposits.solana_pay import PaymentRequest

URL = PaymentRequest(
    recipient=Keypair.from_seed(bytes(32)).pubkey(),
    mint=Keypair.from_seed(bytes([2] * 32)).pubkey(),
    references=(Keypair.from_seed(bytes([3] * 32)).pubkey(),),
    label="Raymart",
    memo="raymart:x",
).url()


class TestSvg:
    def test_it_draws_every_dark_module_inside_its_quiet_zone(self):
        root = ET.fromstring(qr.as_svg(URL))
        tags = {element.tag.removeprefix("{http://www.w3.org/2000/svg}") for element in root.iter()}
        assert tags <= {"svg", "g", "path"}
        assert {name for element in root.iter() for name in element.attrib} <= {
            "width", "height", "d", "transform", "fill", "stroke",
        }  # fmt: skip
        code = segno.make_qr(URL, error="m", boost_error=False)
        side = code.symbol_size(scale=4, border=4)[0]
        assert (root.get("width"), root.get("height")) == (str(side), str(side))
        drawn = sum(int(run) for run in re.findall(r"h(\d+)", list(root.iter())[-1].get("d", "")))
        assert drawn == sum(map(sum, code.matrix))


class TestText:
    def test_it_is_half_as_many_lines_as_modules(self):
        lines = qr.as_text(URL).splitlines()
        code = segno.make_qr(URL, error="m", boost_error=False)
        side = code.symbol_size(border=4)[0]
        assert len(lines) in {(side + 1) // 2, (side + 1) // 2 + 1}
        assert all(set(line) <= set(" ▀▄█\x1b[0123456789;m") for line in lines)
