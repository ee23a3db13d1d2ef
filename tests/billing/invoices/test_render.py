"""A document is a PDF of the right pages, the same bytes each time, and shows what people wrote as they wrote it."""

import re
import threading
from dataclasses import replace
from pathlib import Path

import pytest

from raymart_billing.invoices import CreditNoteLine, InvoiceState, Party, render_pdf, render_pictures
from raymart_billing.invoices.render import _compiler, _template
from raymart_billing.invoices.sheet import ROWS_MAX, credit_note_sheet, invoice_sheet
from support.pdf_text import text_of
from support.picture import ink_columns
from support.sample_invoice import BUYER, SELLER, sample_credit_note, sample_invoice

PDF_PAGE = re.compile(rb"/Type\s*/Page\b(?!s)")
HOSTILE = (
    '#read("/etc/passwd")', "#panic(1)", "$ x^2 $", "*bold* _it_ @ref <label>", "#import \"@preview/x:1.0.0\"",
    "\\u{41} `raw` ~ -- ... ' \" /* c */ // d", "]#{1/0}[", "= Heading", "</script>", "{{x}} %s {0}",
)  # fmt: skip


def sheet_of(buyer: Party = BUYER, **changes):
    invoice, lines = sample_invoice(buyer=buyer, **changes)
    return invoice_sheet(invoice, lines, [], seller=SELLER, buyer=buyer)


def named(name: str, address: str = "Street") -> Party:
    return Party(legal_name=name, address=address, country="AT", tax_id=None, email="a@b.example")


def picture(sheet) -> list[bytes]:
    return render_pictures(sheet)


class TestPdf:
    def test_same_invoice_gives_the_same_bytes(self):
        sheet = sheet_of()
        assert render_pdf(sheet) == render_pdf(sheet)

    def test_four_threads_give_the_same_bytes(self):
        sheet, made = sheet_of(), []
        threads = [threading.Thread(target=lambda: made.append(render_pdf(sheet))) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(made) == 4
        assert len(set(made)) == 1

    def test_other_invoice_gives_other_bytes(self):
        assert render_pdf(sheet_of()) != render_pdf(sheet_of(named("Somebody else")))

    def test_it_is_a_pdf_of_its_own_time(self):
        pdf = render_pdf(sheet_of())
        assert pdf.startswith(b"%PDF-1.")
        assert b"20261202000500" in pdf

    def test_200_lines_fill_several_pages_with_a_head_on_each(self):
        pdf = render_pdf(sheet_of(usage_lines=200))
        pages = len(PDF_PAGE.findall(pdf))
        assert 7 <= pages <= 12
        said = text_of(pdf)
        assert said.count("MODELANDUNIT") >= pages - 1
        assert said.count("InvoiceRM-2026-000042·NorthwindRobotics") == pages - 1
        for page in range(1, pages + 1):
            assert f"Page{page}of{pages}" in said

    def test_lines_beyond_what_is_printed_are_summed(self):
        invoice, lines = sample_invoice(ROWS_MAX + 5)
        sheet = invoice_sheet(invoice, lines, [])
        assert sheet.more is not None
        assert sheet.more.startswith("8 more lines, together ")

    def test_long_words_stay_within_the_margins(self):
        """80 characters without a blank, wherever somebody may write them."""
        word = "W" * 80
        sheet = sheet_of(named(word, address=word), model=word, state=InvoiceState.VOID)
        pages = _compiler(None, replace(sheet, badge=None)).compile(format="png", ppi=16.0)
        for page in [pages] if isinstance(pages, bytes) else pages:
            first, last = ink_columns(page)
            assert first > 0.085
            assert last < 0.915

    def test_text_can_be_searched_and_copied(self):
        text = text_of(render_pdf(sheet_of()))
        for said in (
            "InvoiceRM-2026-000042",
            "NorthwindRobotics,Inc.",
            "Usagecharged",
            "Page1of1",
            "2December2026",
        ):
            assert said in text

    @pytest.mark.parametrize("state", [InvoiceState.DRAFT, InvoiceState.VOID])
    def test_draft_and_void_are_marked(self, state):
        sheet = sheet_of(state=state)
        assert sheet.badge == state.value.upper()
        assert picture(sheet) != picture(sheet_of())

    def test_credit_note_is_on_its_invoice_and_a_document_of_its_own(self):
        invoice, lines = sample_invoice()
        note = sample_credit_note(invoice)
        with_note = invoice_sheet(invoice, lines, [note])
        assert with_note.credit_notes[0]["number"] == "RMC-2026-000003"
        line = CreditNoteLine(position=0, description="Images", amount_nano_usd=note.amount_nano_usd)
        own = credit_note_sheet(note, [line], invoice)
        assert (own.title, own.summary["amount"], own.buyer.name) == ("Credit note", "5.00", BUYER.legal_name)
        assert render_pdf(own).startswith(b"%PDF")


class TestWhatPeopleWrote:
    @pytest.mark.parametrize("text", HOSTILE)
    def test_is_shown_and_never_run(self, text):
        """The very string is in the text of the PDF, everywhere that somebody may write one."""
        invoice, lines = sample_invoice(
            state=InvoiceState.VOID, buyer=named(text, address=f"{text}\n{text}"), model=text
        )
        invoice.void_reason = text
        note = sample_credit_note(invoice)
        note.reason = text
        said = text_of(render_pdf(invoice_sheet(invoice, lines, [note])))
        # Name, two lines of the address, four models, the reason of the void and of the credit note.
        assert said.count("".join(text.split())) >= 9

    def test_template_opens_no_file_and_no_package(self):
        source = _template().decode()
        assert not re.search(
            r"\b(read|include|import|plugin|csv|yaml|toml|xml|cbor|image|eval|bibliography)\s*[(\"]", source
        )

    def test_reading_would_fail_even_if_it_were_run(self):
        """The root is the template's own folder: a second wall."""
        compiler = _compiler(None, sheet_of())
        with pytest.raises(Exception, match=r"passwd|outside|root|access"):
            compiler.compile(input=b'#read("/../../../../../../etc/passwd")', format="pdf")

    @pytest.mark.parametrize(
        "name",
        [
            "שלום עולם",
            "شركة النور",
            "株式会社レイマート",
            "Łódź Ελλάδα Москва",
            "\N{MATHEMATICAL DOUBLE-STRUCK CAPITAL X} 🚀 e\u0301",
        ],
    )
    def test_every_script_is_set(self, name):
        assert len(picture(sheet_of(named(name)))) == len(picture(sheet_of()))

    @pytest.mark.parametrize(
        ("name", "is_noted"), [("株式会社", True), ("🚀", True), ("Łódź Ελλάδα שלום", False)]
    )
    def test_characters_without_a_font_are_pointed_out(self, name, is_noted):
        assert any("not in the fonts" in note for note in sheet_of(named(name)).notes) is is_noted

    def test_machine_fonts_are_not_used(self, tmp_path: Path):
        """A folder of fonts is the operator's choice; an empty one changes nothing."""
        assert render_pdf(sheet_of(), fonts_dir=tmp_path) == render_pdf(sheet_of())
