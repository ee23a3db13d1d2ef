-- Invoices, credit notes and refunds: documents about the ledger that cannot say anything else than the ledger does.
--
-- An invoice covers a range of the ledger: the transfers of one customer's balance after `after_transfer_id` up to and
-- with `up_to_transfer_id`. Ids order the transfers of one account as they were committed, so ranges that join leave
-- nothing out and take nothing twice, whatever a clock says. The trigger of the last step, draft -> final, adds up the
-- range itself and refuses an invoice whose lines say something else.
--
-- Locks: a document's row before the usage record, the usage record before accounts.

create table billing_profile (
    organization_id uuid not null,
    legal_name varchar not null,
    address varchar not null,
    country varchar not null,
    tax_id varchar,
    email varchar not null,
    updated_at timestamp with time zone not null default clock_timestamp(),
    updated_by uuid,
    constraint pk_billing_profile primary key (organization_id),
    constraint fk_billing_profile_organization_id_organization foreign key (organization_id)
        references organization (id) on delete restrict,
    constraint ck_billing_profile_lengths check (
        length(legal_name) between 1 and 200 and length(address) between 1 and 500 and length(email) between 3 and 254
        and (tax_id is null or length(tax_id) between 1 and 50)
    ),
    constraint ck_billing_profile_country_is_iso_3166 check (country ~ '^[A-Z]{2}$')
);

-- One row a series, locked from the number's assignment to the commit: a rollback gives the number back, so no gaps.
create table document_series (
    series varchar not null,
    last_number bigint not null,
    constraint pk_document_series primary key (series),
    constraint ck_document_series_series_is_short check (series ~ '^[A-Z]{2,4}-[0-9]{4}$'),
    constraint ck_document_series_from_one check (last_number between 1 and 999999)
);

create table invoice (
    id uuid not null,
    created_at timestamp with time zone not null default clock_timestamp(),
    organization_id uuid not null,
    state varchar(32) not null,
    asset varchar(32) not null,
    period_start date not null,
    period_end date not null,
    after_transfer_id bigint not null,
    up_to_transfer_id bigint not null,
    booked_until timestamp with time zone not null,
    opening_nano_usd bigint not null,
    closing_nano_usd bigint not null,
    charged_nano_usd bigint not null,
    number varchar,
    buyer jsonb,
    seller jsonb,
    content_sha256 bytea,
    issued_at timestamp with time zone,
    issued_by uuid,
    void_reason varchar,
    voided_at timestamp with time zone,
    voided_by uuid,
    constraint pk_invoice primary key (id),
    constraint fk_invoice_organization_id_organization foreign key (organization_id)
        references organization (id) on delete restrict,
    constraint uq_invoice_number unique (number),
    constraint ck_invoice_invoicestate check (state in ('draft', 'final', 'void')),
    constraint ck_invoice_asset check (asset in ('usd', 'usdc')),
    constraint ck_invoice_asset_is_usd check (asset = 'usd'),
    constraint ck_invoice_period_is_a_month check (
        extract(day from period_start) = 1 and period_end = (period_start + interval '1 month')::date
    ),
    constraint ck_invoice_range_goes_on check (after_transfer_id >= 0 and up_to_transfer_id >= after_transfer_id),
    constraint ck_invoice_balances_not_negative check (
        opening_nano_usd >= 0 and closing_nano_usd >= 0 and charged_nano_usd >= 0
    ),
    constraint ck_invoice_issued_is_complete check (
        (state = 'draft') = (number is null) and (number is null) = (buyer is null)
        and (number is null) = (seller is null) and (number is null) = (content_sha256 is null)
        and (number is null) = (issued_at is null)
    ),
    constraint ck_invoice_hash_is_sha256 check (length(content_sha256) = 32),
    constraint ck_invoice_void_has_reason check (
        (state = 'void') = (void_reason is not null) and (state = 'void') = (voided_at is not null)
        and length(void_reason) between 1 and 500
    )
);
-- One living invoice a month, and no two that begin at the same place of the ledger.
create unique index uq_invoice_living_month on invoice (organization_id, period_start) where state <> 'void';
create unique index uq_invoice_final_range on invoice (organization_id, after_transfer_id) where state = 'final';
create index ix_invoice_organization_id_id on invoice (organization_id, id);
create index ix_invoice_drafts on invoice (period_end) where state = 'draft';

create table invoice_line (
    id uuid not null,
    created_at timestamp with time zone not null default clock_timestamp(),
    invoice_id uuid not null,
    position integer not null,
    kind varchar(32) not null,
    code varchar(32) not null,
    description varchar not null,
    occurred_at timestamp with time zone,
    transfers bigint not null,
    usage_month date,
    model_id uuid,
    unit varchar(32),
    scale bigint,
    quantity bigint,
    unit_price_nano_usd bigint,
    amount_nano_usd bigint not null,
    constraint pk_invoice_line primary key (id),
    constraint fk_invoice_line_invoice_id_invoice foreign key (invoice_id) references invoice (id) on delete restrict,
    constraint uq_invoice_line_invoice_id_position unique (invoice_id, position),
    constraint ck_invoice_line_linekind check (kind in (
        'usage', 'usage_waived', 'deposit', 'grant', 'refund', 'adjustment', 'dispute', 'other'
    )),
    constraint ck_invoice_line_position_not_negative check (position >= 0),
    constraint ck_invoice_line_transfers_positive check (transfers > 0),
    constraint ck_invoice_line_usage_is_whole check (
        (kind = 'usage') = (unit is not null) and (unit is null) = (model_id is null)
        and (unit is null) = (scale is null) and (unit is null) = (quantity is null)
        and (unit is null) = (unit_price_nano_usd is null) and (unit is null) = (usage_month is null)
    ),
    -- Each request's part was rounded down to a nano-USD: together they fall short by less than one for each.
    constraint ck_invoice_line_amount_is_quantity_times_price check (
        unit is null or (
            scale > 0 and quantity > 0 and unit_price_nano_usd >= 0 and amount_nano_usd <= 0
            and -amount_nano_usd::numeric * scale <= quantity::numeric * unit_price_nano_usd
            and (-amount_nano_usd::numeric + transfers) * scale > quantity::numeric * unit_price_nano_usd
        )
    ),
    constraint ck_invoice_line_something_moved check (unit is not null or amount_nano_usd <> 0)
);
create index ix_invoice_line_usage on invoice_line (usage_month, model_id) where unit is not null;

create table credit_note (
    id uuid not null,
    created_at timestamp with time zone not null default clock_timestamp(),
    organization_id uuid not null,
    invoice_id uuid not null,
    state varchar(32) not null,
    reason varchar not null,
    amount_nano_usd bigint not null,
    created_by uuid,
    number varchar,
    content_sha256 bytea,
    issued_at timestamp with time zone,
    issued_by uuid,
    constraint pk_credit_note primary key (id),
    constraint fk_credit_note_organization_id_organization foreign key (organization_id)
        references organization (id) on delete restrict,
    constraint fk_credit_note_invoice_id_invoice foreign key (invoice_id) references invoice (id) on delete restrict,
    constraint uq_credit_note_number unique (number),
    constraint ck_credit_note_creditnotestate check (state in ('draft', 'issued', 'void')),
    constraint ck_credit_note_amount_positive check (amount_nano_usd > 0),
    constraint ck_credit_note_reason_given check (length(reason) between 1 and 500),
    constraint ck_credit_note_issued_is_complete check (
        (state = 'issued') = (number is not null) and (number is null) = (content_sha256 is null)
        and (number is null) = (issued_at is null)
    ),
    constraint ck_credit_note_hash_is_sha256 check (length(content_sha256) = 32)
);
create index ix_credit_note_invoice_id on credit_note (invoice_id);
create index ix_credit_note_organization_id_id on credit_note (organization_id, id);

create table credit_note_line (
    id uuid not null,
    created_at timestamp with time zone not null default clock_timestamp(),
    credit_note_id uuid not null,
    position integer not null,
    description varchar not null,
    amount_nano_usd bigint not null,
    constraint pk_credit_note_line primary key (id),
    constraint fk_credit_note_line_credit_note_id_credit_note foreign key (credit_note_id)
        references credit_note (id) on delete restrict,
    constraint uq_credit_note_line_credit_note_id_position unique (credit_note_id, position),
    constraint ck_credit_note_line_amount_positive check (amount_nano_usd > 0),
    constraint ck_credit_note_line_described check (length(description) between 1 and 300)
);

create table refund (
    id uuid not null,
    created_at timestamp with time zone not null default clock_timestamp(),
    key varchar not null,
    kind varchar(32) not null,
    organization_id uuid not null,
    request_id uuid,
    credit_note_id uuid,
    provider_id uuid,
    amount_nano_usd bigint not null,
    clawback_nano_usd bigint not null,
    fee_nano_usd bigint not null,
    expense_nano_usd bigint not null,
    bearer varchar(32) not null,
    rule varchar(64),
    rule_version integer,
    reason varchar not null,
    actor_id uuid,
    constraint pk_refund primary key (id),
    constraint uq_refund_key unique (key),
    constraint uq_refund_credit_note_id unique (credit_note_id),
    constraint fk_refund_credit_note_id_credit_note foreign key (credit_note_id)
        references credit_note (id) on delete restrict,
    constraint ck_refund_refundkind check (kind in ('rule', 'admin', 'credit_note')),
    constraint ck_refund_bearer check (bearer in ('provider', 'platform')),
    constraint ck_refund_amount_positive check (amount_nano_usd > 0),
    constraint ck_refund_parts_add_up check (
        clawback_nano_usd >= 0 and fee_nano_usd >= 0 and expense_nano_usd >= 0
        and amount_nano_usd = clawback_nano_usd + fee_nano_usd + expense_nano_usd
    ),
    constraint ck_refund_provider_bears_its_own check (
        clawback_nano_usd = 0 or (bearer = 'provider' and provider_id is not null)
    ),
    constraint ck_refund_of_one_thing check (
        (kind = 'credit_note') = (credit_note_id is not null) and (kind = 'credit_note') = (request_id is null)
    ),
    constraint ck_refund_rule_is_named check (
        (kind = 'rule') = (rule is not null) and (rule is null) = (rule_version is null)
    ),
    constraint ck_refund_reason_given check (length(reason) between 1 and 500),
    constraint ck_refund_key_length check (length(key) between 1 and 200)
);
create unique index uq_refund_rule on refund (request_id) where kind = 'rule';
create index ix_refund_request_id on refund (request_id);
create index ix_refund_organization_id_id on refund (organization_id, id);

-- What the rules of refunds look at, once a minute.
create index ix_request_failed on request (id) where state = 'failed';


-- Numbers --------------------------------------------------------------------------------------------------------

-- The next number of a series such as "RM-2026". Locks the series until the transaction ends.
create function document_number_next(p_series text) returns text
language plpgsql security definer set search_path = public, pg_temp as $$
declare
    v_number bigint;
begin
    insert into document_series (series, last_number) values (p_series, 1)
    on conflict (series) do update set last_number = document_series.last_number + 1
    returning last_number into v_number;
    return p_series || '-' || lpad(v_number::text, 6, '0');
end $$;


-- Guards of invoices ---------------------------------------------------------------------------------------------

create function invoice_refuse() returns trigger language plpgsql set search_path = public, pg_temp as $$
begin
    raise exception using
        errcode = 'insufficient_privilege', table = tg_table_name, constraint = 'ck_' || tg_table_name || '_immutable',
        message = tg_op || ' on ' || tg_table_name || ' is refused: what was issued stays as it is',
        hint = 'void the newest invoice with a reason, or correct an older one with a credit note';
end $$;

-- Refuses an invoice that says something else than the ledger.
create function invoice_check_final(p_invoice invoice) returns void
language plpgsql set search_path = public, pg_temp as $$
declare
    v_account bigint;
    v_previous invoice;
    v_changed numeric;
    v_charged numeric;
    v_lines numeric;
    v_usage numeric;
begin
    if (p_invoice.period_end at time zone 'UTC') > clock_timestamp() then
        raise exception using errcode = 'check_violation', constraint = 'ck_invoice_period_is_over', table = 'invoice',
            message = 'the month that ends on ' || p_invoice.period_end || ' is not over';
    end if;
    if not exists (
        select from document_series
         where p_invoice.number = series || '-' || lpad(last_number::text, 6, '0')
    ) then
        raise exception using errcode = 'check_violation', constraint = 'ck_invoice_number_is_next', table = 'invoice',
            message = p_invoice.number || ' is not the number that its series stands at';
    end if;

    select * into v_previous from invoice
     where organization_id = p_invoice.organization_id and state = 'final' and id <> p_invoice.id
     order by up_to_transfer_id desc, period_start desc
     limit 1;
    if (coalesce(v_previous.up_to_transfer_id, 0), coalesce(v_previous.closing_nano_usd, 0))
       <> (p_invoice.after_transfer_id, p_invoice.opening_nano_usd)
       or v_previous.period_start >= p_invoice.period_start then
        raise exception using errcode = 'check_violation', constraint = 'ck_invoice_joins_previous', table = 'invoice',
            message = 'the invoice does not begin where ' || coalesce(v_previous.number, 'the books') || ' ended';
    end if;

    select id into v_account from ledger_account
     where kind = 'customer_balance' and owner_id = p_invoice.organization_id and asset = 'usd';
    select coalesce(sum(case when credit_account_id = v_account then amount else -amount end), 0),
           coalesce(sum(amount) filter (where code = 'usage_charge'), 0)
      into v_changed, v_charged
      from transfer
     where state = 'posted' and id > p_invoice.after_transfer_id and id <= p_invoice.up_to_transfer_id
       and (debit_account_id = v_account or credit_account_id = v_account);
    select coalesce(sum(amount_nano_usd), 0),
           coalesce(sum(amount_nano_usd) filter (where kind in ('usage', 'usage_waived')), 0)
      into v_lines, v_usage
      from invoice_line where invoice_id = p_invoice.id;
    if v_lines <> v_changed or v_lines <> p_invoice.closing_nano_usd - p_invoice.opening_nano_usd
       or v_usage <> -v_charged or v_charged <> p_invoice.charged_nano_usd then
        raise exception using errcode = 'check_violation', constraint = 'ck_invoice_lines_are_the_ledger',
            table = 'invoice',
            message = 'the lines change the balance by ' || v_lines || ' (usage ' || v_usage || ') nano-USD, the ledger by '
                || v_changed || ' (usage ' || -v_charged || '): the difference must be zero';
    end if;
end $$;

create function invoice_guard() returns trigger language plpgsql set search_path = public, pg_temp as $$
declare
    v_void constant text[] := array['state', 'void_reason', 'voided_at', 'voided_by'];
begin
    if tg_op = 'INSERT' and new.state = 'draft' then
        return new;
    end if;
    if tg_op = 'DELETE' and old.state = 'draft' then
        return old;
    end if;
    if tg_op = 'UPDATE' and old.state = 'draft' and new.state = 'draft' then
        return new;
    end if;
    if tg_op = 'UPDATE' and old.state = 'draft' and new.state = 'final' then
        perform invoice_check_final(new);
        return new;
    end if;
    if tg_op = 'UPDATE' and old.state = 'final' and new.state = 'void' and to_jsonb(new) - v_void = to_jsonb(old) - v_void
    then
        if exists (
            select from invoice
             where organization_id = old.organization_id and state = 'final' and after_transfer_id >= old.up_to_transfer_id
               and id <> old.id
        ) or exists (select from credit_note where invoice_id = old.id and state = 'issued') then
            raise exception using
                errcode = 'check_violation', constraint = 'ck_invoice_void_is_newest', table = 'invoice',
                message = old.number || ' has a successor or a credit note and cannot be voided';
        end if;
        return new;
    end if;
    raise exception using
        errcode = 'insufficient_privilege', constraint = 'ck_invoice_immutable', table = 'invoice',
        message = tg_op || ' on invoice is refused: draft -> final -> void, and a final invoice stays as it is',
        hint = 'void the newest invoice with a reason, or correct an older one with a credit note';
end $$;

create trigger guard before insert or update or delete on invoice for each row execute function invoice_guard();
create trigger refuse_truncate before truncate on invoice for each statement execute function invoice_refuse();

create function invoice_line_guard() returns trigger language plpgsql set search_path = public, pg_temp as $$
declare
    v_line invoice_line := case when tg_op = 'DELETE' then old else new end;
    v_state text;
begin
    -- For share: the invoice cannot become final between this look and the commit.
    select state into v_state from invoice where id = v_line.invoice_id for share;
    if tg_op = 'UPDATE' or v_state is distinct from 'draft' then
        raise exception using
            errcode = 'insufficient_privilege', constraint = 'ck_invoice_line_immutable', table = 'invoice_line',
            message = tg_op || ' of a line of a ' || coalesce(v_state, 'missing') || ' invoice is refused';
    end if;
    return v_line;
end $$;

create trigger guard before insert or update or delete on invoice_line
    for each row execute function invoice_line_guard();
create trigger refuse_truncate before truncate on invoice_line for each statement execute function invoice_refuse();


-- Guards of credit notes -----------------------------------------------------------------------------------------

-- What is left of a final invoice: its usage, less the refunds among its lines, less what was given back since, by
-- credit note or for its requests one by one. Never below zero.
create function invoice_creditable(p_invoice_id uuid) returns bigint
language sql stable set search_path = public, pg_temp as $$
    select greatest(0,
        i.charged_nano_usd
        - coalesce((
            select sum(l.amount_nano_usd) from invoice_line l where l.invoice_id = i.id and l.kind = 'refund'
        ), 0)
        - coalesce((
            select sum(n.amount_nano_usd) from credit_note n where n.invoice_id = i.id and n.state = 'issued'
        ), 0)
        - coalesce((
            select sum(r.amount_nano_usd)
              from refund r
              join transfer t on t.key = 'refund:' || r.id
              join usage_record u on u.id = r.request_id
             where r.organization_id = i.organization_id and t.id > i.up_to_transfer_id and u.posted_at < i.booked_until
               and u.posted_at >= coalesce((
                    select max(before.booked_until) from invoice before
                     where before.organization_id = i.organization_id and before.state = 'final'
                       and before.up_to_transfer_id <= i.after_transfer_id and before.id <> i.id
                   ), '-infinity')
        ), 0)
    )::bigint
      from invoice i where i.id = p_invoice_id and i.state = 'final'
$$;

create function credit_note_check_issue(p_note credit_note) returns void
language plpgsql set search_path = public, pg_temp as $$
declare
    v_lines numeric;
    v_left bigint;
begin
    -- No key update: notes of one invoice are issued one after the other.
    perform 1 from invoice where id = p_note.invoice_id and organization_id = p_note.organization_id and state = 'final'
        for no key update;
    if not found then
        raise exception using
            errcode = 'check_violation', constraint = 'ck_credit_note_of_final_invoice', table = 'credit_note',
            message = 'a credit note corrects a final invoice of the same customer';
    end if;
    select coalesce(sum(amount_nano_usd), 0) into v_lines from credit_note_line where credit_note_id = p_note.id;
    if v_lines <> p_note.amount_nano_usd then
        raise exception using
            errcode = 'check_violation', constraint = 'ck_credit_note_lines_add_up', table = 'credit_note',
            message = 'the lines of the credit note sum to ' || v_lines || ', not ' || p_note.amount_nano_usd;
    end if;
    v_left := invoice_creditable(p_note.invoice_id);
    if p_note.amount_nano_usd > v_left then
        raise exception using
            errcode = 'check_violation', constraint = 'ck_credit_note_within_invoice', table = 'credit_note',
            message = 'a credit note of ' || p_note.amount_nano_usd || ' exceeds what is left of the invoice, ' || v_left;
    end if;
    if not exists (
        select from document_series where p_note.number = series || '-' || lpad(last_number::text, 6, '0')
    ) then
        raise exception using
            errcode = 'check_violation', constraint = 'ck_credit_note_number_is_next', table = 'credit_note',
            message = p_note.number || ' is not the number that its series stands at';
    end if;
end $$;

create function credit_note_guard() returns trigger language plpgsql set search_path = public, pg_temp as $$
begin
    if tg_op = 'INSERT' and new.state = 'draft' then
        return new;
    end if;
    if tg_op = 'UPDATE' and old.state = 'draft' and old.amount_nano_usd = new.amount_nano_usd
       and old.invoice_id = new.invoice_id then
        if new.state = 'issued' then
            perform credit_note_check_issue(new);
        end if;
        return new;
    end if;
    raise exception using
        errcode = 'insufficient_privilege', constraint = 'ck_credit_note_immutable', table = 'credit_note',
        message = tg_op || ' on credit_note is refused: draft -> issued or void, and then it stays as it is';
end $$;

create trigger guard before insert or update or delete on credit_note
    for each row execute function credit_note_guard();
create trigger refuse_truncate before truncate on credit_note for each statement execute function invoice_refuse();

create function credit_note_line_guard() returns trigger language plpgsql set search_path = public, pg_temp as $$
declare
    v_state text;
begin
    if tg_op = 'INSERT' then
        select state into v_state from credit_note where id = new.credit_note_id for share;
        if v_state = 'draft' then
            return new;
        end if;
    end if;
    raise exception using
        errcode = 'insufficient_privilege', constraint = 'ck_credit_note_line_immutable', table = 'credit_note_line',
        message = tg_op || ' of a line of a credit note is refused: make another credit note';
end $$;

create trigger guard before insert or update or delete on credit_note_line
    for each row execute function credit_note_line_guard();
create trigger refuse_truncate before truncate on credit_note_line for each statement execute function invoice_refuse();


-- Refunds --------------------------------------------------------------------------------------------------------

create trigger refuse_change before update or delete or truncate on refund
    for each statement execute function invoice_refuse();

-- What can still be given back for a request: what its customer paid, less what was given back. Null when it was not
-- billed. What neither a hold nor the balance covered was never paid.
create function refund_left(p_request_id uuid) returns bigint
language sql stable set search_path = public, pg_temp as $$
    select u.customer_nano_usd
           - coalesce((
                select t.amount from transfer t
                 where t.key = 'usage:' || u.id || ':uncovered' and t.code = 'usage_shortfall'
             ), 0)
           - coalesce((select sum(r.amount_nano_usd) from refund r where r.request_id = u.id), 0)::bigint
      from usage_record u where u.id = p_request_id and u.posted_at is not null
$$;

create function refund_guard() returns trigger language plpgsql set search_path = public, pg_temp as $$
declare
    v_usage record;
    v_left bigint;
begin
    if new.request_id is null then
        return new;
    end if;
    -- Under this lock refunds of one request come one after the other.
    select organization_id, provider_id into v_usage from usage_record where id = new.request_id for no key update;
    v_left := refund_left(new.request_id);
    if v_left is null or (v_usage.organization_id, v_usage.provider_id) is distinct from (new.organization_id, new.provider_id)
       or new.amount_nano_usd > v_left then
        raise exception using
            errcode = 'check_violation', constraint = 'ck_refund_within_charge', table = 'refund',
            message = 'a refund of ' || new.amount_nano_usd || ' exceeds what is left of the request''s charge, '
                || coalesce(v_left, 0);
    end if;
    return new;
end $$;

create trigger guard before insert on refund for each row execute function refund_guard();

-- A refund without its transfers would be a lie: they come first, in the same transaction.
create function refund_check_posted() returns trigger language plpgsql set search_path = public, pg_temp as $$
begin
    if (
        select coalesce(sum(amount) filter (where code = 'refund'), 0) <> new.amount_nano_usd
            or coalesce(sum(amount) filter (where code = 'refund_clawback'), 0) <> new.clawback_nano_usd
            or coalesce(sum(amount) filter (where code = 'refund_fee'), 0) <> new.fee_nano_usd
          from transfer
         where key = any(array['refund:' || new.id, 'refund:' || new.id || ':clawback', 'refund:' || new.id || ':fee'])
           and state = 'posted'
    ) then
        raise exception using
            errcode = 'check_violation', constraint = 'ck_refund_is_posted', table = 'refund',
            message = 'refund ' || new.id || ' has no such transfers in the ledger';
    end if;
    return null;
end $$;

create trigger check_posted after insert on refund for each row execute function refund_check_posted();

-- Give back `p_amount` (null: all that is left) for a request, or for a credit note, and move the money:
-- platform_refund -> customer; what the provider bears, as far as it is there, provider_payable -> platform_refund; the
-- fee's part platform_fee -> platform_refund. What is left in platform_refund is the platform's expense.
-- A repeat of `p_key` changes nothing and returns the first refund. Null when nothing is left to give back.
create function refund_post(
    p_id uuid, p_key text, p_kind text, p_organization_id uuid, p_request_id uuid, p_credit_note_id uuid, p_amount bigint,
    p_bearer text, p_rule text, p_rule_version integer, p_reason text, p_currency text, p_actor_id uuid
) returns refund
language plpgsql security definer set search_path = public, pg_temp as $$
declare
    v_refund refund;
    v_usage usage_record;
    v_left bigint;
    v_returned bigint;
    v_customer bigint;
    v_expense bigint;
    v_payable bigint;
    v_fee bigint;
    v_provider_part bigint := 0;
    v_available bigint;
begin
    if p_currency <> 'usd' then
        raise exception using errcode = 'check_violation', constraint = 'ck_refund_currency', table = 'refund',
            message = 'a refund is in usd, not ' || p_currency;
    end if;
    if p_request_id is not null then
        select * into v_usage from usage_record where id = p_request_id for no key update;
    end if;
    select * into v_refund from refund where key = p_key;
    if found then
        if (v_refund.kind, v_refund.request_id, v_refund.credit_note_id, v_refund.bearer)
           is distinct from (p_kind, p_request_id, p_credit_note_id, p_bearer)
           or v_refund.amount_nano_usd <> coalesce(p_amount, v_refund.amount_nano_usd) then
            raise exception using
                errcode = 'unique_violation', constraint = 'uq_refund_key', table = 'refund',
                message = 'key ' || p_key || ' was used before, for another refund';
        end if;
        return v_refund;
    end if;

    v_left := case when p_request_id is null then p_amount else coalesce(refund_left(p_request_id), 0) end;
    p_amount := coalesce(p_amount, v_left);
    if p_amount is null or (p_amount = 0 and v_left = 0) then
        return null;
    end if;
    if p_amount <= 0 then
        raise exception using errcode = 'check_violation', constraint = 'ck_refund_amount_positive', table = 'refund',
            message = 'a refund is more than 0 nano-USD, not ' || p_amount;
    end if;
    if p_amount > v_left then
        raise exception using errcode = 'check_violation', constraint = 'ck_refund_within_charge', table = 'refund',
            message = 'a refund of ' || p_amount || ' exceeds what is left of the request''s charge, ' || v_left;
    end if;

    v_customer := ledger_open_account('customer_balance', p_organization_id, 'usd');
    v_expense := ledger_open_account('platform_refund', null, 'usd');
    v_fee := ledger_open_account('platform_fee', null, 'usd');
    if p_request_id is not null then
        v_payable := ledger_open_account('provider_payable', v_usage.provider_id, 'usd');
    end if;
    -- From here on nobody else moves these: what is there now is there when the transfers are written.
    perform ledger_lock_accounts(array_remove(array[v_customer, v_expense, v_fee, v_payable], null));

    v_refund := row(
        p_id, clock_timestamp(), p_key, p_kind, p_organization_id, p_request_id, p_credit_note_id, v_usage.provider_id,
        p_amount, 0, 0, 0, p_bearer, p_rule, p_rule_version, p_reason, p_actor_id
    );
    if p_request_id is not null and v_usage.customer_nano_usd > 0 then
        -- Rounded down: the nano-USD that cannot be split stays with the provider.
        v_provider_part := floor(p_amount::numeric * v_usage.provider_nano_usd / v_usage.customer_nano_usd);
        select credits_posted - debits_posted - debits_pending into v_available from ledger_account where id = v_fee;
        select coalesce(sum(fee_nano_usd), 0) into v_returned from refund where request_id = p_request_id;
        v_refund.fee_nano_usd := greatest(
            0, least(p_amount - v_provider_part, v_usage.fee_nano_usd - v_returned, v_available)
        );
        if p_bearer = 'provider' then
            select credits_posted - debits_posted - debits_pending into v_available
              from ledger_account where id = v_payable;
            v_refund.clawback_nano_usd := greatest(0, least(v_provider_part, v_available));
        end if;
    end if;
    v_refund.expense_nano_usd := p_amount - v_refund.clawback_nano_usd - v_refund.fee_nano_usd;
    perform ledger_post_batch(
        array_agg(leg.key order by leg.position), array_agg(leg.debit order by leg.position),
        array_agg(leg.credit order by leg.position), array_agg(leg.amount order by leg.position),
        array_agg(leg.code order by leg.position), p_actor_id
    )
      from (values
        (1, 'refund:' || p_id, v_expense, v_customer, p_amount, 'refund'),
        (2, 'refund:' || p_id || ':clawback', v_payable, v_expense, v_refund.clawback_nano_usd, 'refund_clawback'),
        (3, 'refund:' || p_id || ':fee', v_fee, v_expense, v_refund.fee_nano_usd, 'refund_fee')
      ) leg (position, key, debit, credit, amount, code)
     where leg.amount > 0;
    insert into refund select v_refund.*;
    return v_refund;
end $$;

revoke execute on function
    document_number_next(text),
    refund_post(uuid, text, text, uuid, uuid, uuid, bigint, text, text, integer, text, text, uuid)
from public;
