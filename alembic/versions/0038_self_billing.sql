-- One self-billing invoice for each payment to a provider that is final on the chain.
--
-- It covers a range of the transfers of the provider's payable account: after the last one of the document before, up to
-- the one by which its payment left the account. Ranges join, so everything that was ever earned is on one document. A
-- payment that became final after a later one has an empty range: what it paid is on that one's already.

create table self_billing_invoice (
    id uuid not null,
    created_at timestamp with time zone not null default clock_timestamp(),
    organization_id uuid not null,
    provider_id uuid not null,
    payout_item_id uuid not null,
    number varchar not null,
    after_transfer_id bigint not null,
    up_to_transfer_id bigint not null,
    opening_nano_usd bigint not null,
    earned_nano_usd bigint not null,
    closing_nano_usd bigint not null,
    paid_micro_usdc bigint not null,
    lines jsonb not null,
    supplier jsonb not null,
    recipient jsonb not null,
    payment jsonb not null,
    content_sha256 bytea not null,
    constraint pk_self_billing_invoice primary key (id),
    constraint uq_self_billing_invoice_number unique (number),
    constraint uq_self_billing_invoice_payout_item_id unique (payout_item_id),
    constraint fk_self_billing_invoice_organization_id_organization
        foreign key (organization_id) references organization (id) on delete restrict,
    constraint fk_self_billing_invoice_provider_id_provider
        foreign key (provider_id) references provider (id) on delete restrict,
    constraint fk_self_billing_invoice_payout_item_id_payout_item
        foreign key (payout_item_id) references payout_item (id) on delete restrict,
    constraint ck_self_billing_invoice_range_goes_on
        check (after_transfer_id >= 0 and up_to_transfer_id >= after_transfer_id),
    constraint ck_self_billing_invoice_paid_positive check (paid_micro_usdc > 0),
    constraint ck_self_billing_invoice_hash_is_sha256 check (length(content_sha256) = 32),
    constraint ck_self_billing_invoice_lines_are_a_list check (jsonb_typeof(lines) = 'array')
);
create index ix_self_billing_invoice_provider_id_id on self_billing_invoice (provider_id, id);

select tenant_isolate('self_billing_invoice', 'organization_id = any ((select tenant_organizations())::uuid[])');
revoke update, delete on self_billing_invoice from raymart_runtime;

-- Refuses a document that says something else than the ledger and the payment do.
create function self_billing_check() returns trigger language plpgsql set search_path = public, pg_temp as $$
declare
    v_item payout_item;
    v_sent transfer;
    v_before self_billing_invoice;
    v_account bigint;
    v_changed numeric;
    v_earned numeric;
    v_differ bigint;
begin
    -- One provider's documents are made one after the other.
    perform from provider where id = new.provider_id and organization_id = new.organization_id for no key update;
    if not found then
        raise exception using
            errcode = 'check_violation', constraint = 'ck_self_billing_invoice_of_provider', table = 'self_billing_invoice',
            message = 'the provider is not of this organization';
    end if;
    select * into v_item from payout_item where id = new.payout_item_id;
    select * into v_sent from transfer where key = 'payout:' || new.payout_item_id || ':sent' and state = 'posted';
    if v_item.state <> 'paid' or v_item.provider_id is distinct from new.provider_id or v_sent.id is null
       or v_sent.amount <> v_item.amount_micro_usdc::numeric * 1000 or v_item.amount_micro_usdc <> new.paid_micro_usdc
       or not exists (
           select from transfer
            where key = 'payout:' || new.payout_item_id || ':settled' and state = 'posted' and amount = v_sent.amount
       ) then
        raise exception using
            errcode = 'check_violation', constraint = 'ck_self_billing_invoice_of_final_payment',
            table = 'self_billing_invoice',
            message = 'the payment is not this provider''s, not final, or not of this amount';
    end if;
    select * into v_before from self_billing_invoice where provider_id = new.provider_id
     order by up_to_transfer_id desc, number desc limit 1;
    if (new.after_transfer_id, new.opening_nano_usd)
           <> (coalesce(v_before.up_to_transfer_id, 0), coalesce(v_before.closing_nano_usd, 0))
       or new.up_to_transfer_id <> greatest(v_sent.id, new.after_transfer_id) then
        raise exception using
            errcode = 'check_violation', constraint = 'ck_self_billing_invoice_joins_previous',
            table = 'self_billing_invoice',
            message = 'the document does not go from where ' || coalesce(v_before.number, 'the books')
                || ' ended to where its payment left';
    end if;
    select id into v_account from ledger_account
     where kind = 'provider_payable' and owner_id = new.provider_id and asset = 'usd';
    select coalesce(sum(case when credit_account_id = v_account then amount else -amount end), 0),
           coalesce(sum(case when credit_account_id = v_account then amount else -amount end)
                    filter (where code in ('usage_earning', 'refund_clawback', 'reversal')), 0)
      into v_changed, v_earned
      from transfer
     where state = 'posted' and id > new.after_transfer_id and id <= new.up_to_transfer_id
       and (debit_account_id = v_account or credit_account_id = v_account);
    select count(*) into v_differ from (
        select (created_at at time zone 'UTC')::date::text as day, code::text as code,
               sum(case when credit_account_id = v_account then amount else -amount end)::numeric as amount
          from transfer
         where state = 'posted' and id > new.after_transfer_id and id <= new.up_to_transfer_id
           and (debit_account_id = v_account or credit_account_id = v_account)
         group by 1, 2
    ) booked full join (
        select line ->> 'day' as day, line ->> 'code' as code, sum((line ->> 'amount')::numeric) as amount
          from jsonb_array_elements(new.lines) line
         group by 1, 2
    ) shown using (day, code)
    where booked.amount is distinct from shown.amount;
    if v_differ > 0 or v_changed <> new.closing_nano_usd - new.opening_nano_usd or v_earned <> new.earned_nano_usd then
        raise exception using
            errcode = 'check_violation', constraint = 'ck_self_billing_invoice_lines_are_the_ledger',
            table = 'self_billing_invoice',
            message = v_differ || ' days and kinds of booking differ from the ledger, which changed the balance by '
                || v_changed || ' (earned ' || v_earned || ') nano-USD, the document by '
                || new.closing_nano_usd - new.opening_nano_usd || ' (earned ' || new.earned_nano_usd || ')';
    end if;
    if not exists (
        select from document_series where new.number = series || '-' || lpad(last_number::text, 6, '0')
    ) then
        raise exception using
            errcode = 'check_violation', constraint = 'ck_self_billing_invoice_number_is_next',
            table = 'self_billing_invoice',
            message = new.number || ' is not the number that its series stands at';
    end if;
    return new;
end $$;
create trigger guard before insert on self_billing_invoice for each row execute function self_billing_check();

create function self_billing_refuse() returns trigger language plpgsql set search_path = public, pg_temp as $$
begin
    raise exception using
        errcode = 'insufficient_privilege', constraint = 'ck_self_billing_invoice_immutable', table = 'self_billing_invoice',
        message = tg_op || ' on self_billing_invoice is refused: what was issued stays as it is';
end $$;
create trigger refuse_change before update or delete on self_billing_invoice
    for each row execute function self_billing_refuse();
create trigger refuse_truncate before truncate on self_billing_invoice
    for each statement execute function self_billing_refuse();

revoke execute on function self_billing_check(), self_billing_refuse() from public;
