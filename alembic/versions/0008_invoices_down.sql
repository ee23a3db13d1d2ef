-- Those that name a table's row type go before the table, those that a trigger calls after it.
drop function
    invoice_check_final(invoice), credit_note_check_issue(credit_note),
    refund_post(uuid, text, text, uuid, uuid, uuid, bigint, text, text, integer, text, text, uuid);
drop table refund, credit_note_line, credit_note, invoice_line, invoice, document_series, billing_profile;
drop function
    invoice_refuse(), invoice_guard(), invoice_line_guard(), credit_note_guard(), credit_note_line_guard(),
    invoice_creditable(uuid), refund_guard(), refund_check_posted(), refund_left(uuid), document_number_next(text);
drop index ix_request_failed;
