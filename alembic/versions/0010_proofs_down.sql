-- Back to 0002's check and batch. Snapshots and seals are lost; a reversal that was made stays in the way: money is not forgotten.

drop function ledger_seal(bigint, bigint[], bytea[]);
drop function ledger_take_snapshot();
drop function ledger_reverse(bigint[], text, uuid);
drop table transfer_seal;
drop table ledger_check;
drop table account_snapshot;
drop table ledger_snapshot;

do $$ begin
    if exists (select from transfer where code = 'reversal') then
        raise exception 'transfers were reversed; without `reverses_id` nobody could say which';
    end if;
end $$;

create or replace function ledger_check_inserted() returns trigger
language plpgsql security definer set search_path = public, pg_temp
set enable_seqscan = off set enable_hashjoin = off set enable_mergejoin = off as $$
declare
    v_key text;
begin
    -- In place of foreign keys, for the whole statement at once; accounts are never deleted.
    select n.key into v_key
      from inserted n
      left join ledger_account d on d.id = n.debit_account_id
      left join ledger_account c on c.id = n.credit_account_id
     where d.id is null or c.id is null or d.asset <> c.asset
        or (n.state = 'pending' and d.owner_id is distinct from c.owner_id)
     limit 1;
    if found then
        raise exception using
            errcode = 'foreign_key_violation', table = 'transfer',
            message = 'transfer ' || v_key || ' needs two open accounts of one asset, and of one owner while pending';
    end if;

    select n.key into v_key
      from inserted n
      left join transfer h on h.id = n.pending_id
     where n.pending_id is not null
       and (h.id is null or h.state <> 'pending' or n.amount > h.amount
            or (n.state = 'voided' and n.amount <> h.amount)
            or n.debit_account_id <> h.debit_account_id or n.credit_account_id <> h.credit_account_id)
     limit 1;
    if found then
        raise exception using
            errcode = 'check_violation', constraint = 'ck_transfer_fits_its_hold', table = 'transfer',
            message = 'transfer ' || v_key || ' does not fit its hold: same accounts, and at most the amount held';
    end if;
    return null;
end $$;

create or replace function ledger_post_batch(
    p_keys text[], p_debits bigint[], p_credits bigint[], p_amounts bigint[], p_codes text[], p_actor_id uuid default null
) returns integer
language plpgsql security definer set search_path = public, pg_temp
set enable_seqscan = off set enable_hashjoin = off set enable_mergejoin = off as $$
declare
    v_size integer := cardinality(p_keys);
    v_new integer;
    v_key text;
begin
    if v_size not between 1 and 1000
       or array[cardinality(p_debits), cardinality(p_credits), cardinality(p_amounts), cardinality(p_codes)]
          <> array[v_size, v_size, v_size, v_size] then
        raise exception using
            errcode = 'invalid_parameter_value',
            message = 'a batch is 1 to 1000 transfers in arrays of one length, not ' || v_size;
    end if;

    perform ledger_lock_accounts(p_debits || p_credits);
    insert into transfer (key, debit_account_id, credit_account_id, amount, code, state, actor_id)
    select w.key, w.debit, w.credit, w.amount, w.code, 'posted', p_actor_id
      from unnest(p_keys, p_debits, p_credits, p_amounts, p_codes)
           with ordinality w (key, debit, credit, amount, code, position)
     order by w.position
    on conflict (key) do nothing;
    get diagnostics v_new = row_count;

    if v_new < v_size then
        select w.key into v_key
          from unnest(p_keys, p_debits, p_credits, p_amounts, p_codes) w (key, debit, credit, amount, code)
          join transfer t on t.key = w.key
         where (t.debit_account_id, t.credit_account_id, t.amount, t.code, t.state, t.pending_id)
               is distinct from (w.debit, w.credit, w.amount, w.code, 'posted', null::bigint)
         limit 1;
        if found then
            perform ledger_refuse_key(v_key);
        end if;
    end if;
    return v_new;
end $$;

drop table transfer_code;
alter table transfer drop column reason, drop column reverses_id, drop column xact_id;
