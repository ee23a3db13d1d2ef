-- What the processes of the marketplace may do: members of `raymart_runtime` read everything, write ordinary tables, and
-- move money by functions only. They own nothing, so they can neither switch off a trigger nor change a function.
--
-- The role is of the whole server and may be there already; a login role of a deployment is made a member of it
-- (alembic/README.md). Migrations run as another role, the owner of these tables.

do $$ begin
    if not exists (select from pg_roles where rolname = 'raymart_runtime') then
        create role raymart_runtime nologin;
    end if;
exception
    when duplicate_object or unique_violation then null; -- Another database's migration was faster.
    when insufficient_privilege then
        raise exception using
            errcode = 'insufficient_privilege',
            message = 'there is no role raymart_runtime, and ' || current_user || ' may not make one',
            hint = 'as a superuser: create role raymart_runtime nologin';
end $$;

grant usage on schema public to raymart_runtime;
revoke create on schema public from public, raymart_runtime;

grant select, insert, update, delete on all tables in schema public to raymart_runtime;
alter default privileges in schema public grant select, insert, update, delete on tables to raymart_runtime;
grant usage on all sequences in schema public to raymart_runtime;
alter default privileges in schema public grant usage on sequences to raymart_runtime;

-- Written by functions only.
revoke insert, update, delete on
    ledger_account, transfer, open_hold, transfer_code, ledger_snapshot, account_snapshot, transfer_seal,
    gateway, credit_lease, lease_budget, budget, budget_period, billing_block,
    usage_hour, usage_day, usage_day_part, alembic_version
from raymart_runtime;
-- Written once and kept: what was delivered, and what a check found. A function marks usage as posted.
revoke update, delete on request, attempt, usage_record, ledger_check from raymart_runtime;

-- A function that runs with its caller's rights gives no rights. One that runs with its owner's is granted by name.
alter default privileges revoke execute on functions from public;
do $$
declare
    v_function regprocedure;
begin
    -- The constructors of range types belong to the server itself.
    for v_function in
        select oid from pg_proc
         where pronamespace = 'public'::regnamespace and prokind = 'f' and prorettype <> 'trigger'::regtype
           and proowner = current_user::regrole
    loop
        execute format('revoke execute on function %s from public', v_function);
    end loop;
    for v_function in
        select oid from pg_proc
         where pronamespace = 'public'::regnamespace and prokind = 'f' and prorettype <> 'trigger'::regtype
           and proowner = current_user::regrole and (not prosecdef or proname = any(array[
            'billing_block_lift', 'billing_block_set', 'budget_remove', 'budget_set', 'budgets_of', 'document_number_next',
            'ensure_usage_partitions', 'gateway_is_alive', 'gateway_register', 'lease_expire', 'lease_prune',
            'lease_recall', 'lease_renew', 'lease_return', 'lease_take', 'ledger_capture_usage', 'ledger_expire_holds',
            'ledger_hold', 'ledger_lock_accounts', 'ledger_open_account', 'ledger_post_batch', 'ledger_post_hold',
            'ledger_reverse', 'ledger_seal', 'ledger_take_snapshot', 'ledger_void_hold', 'ledger_void_holds',
            'refund_post', 'usage_months', 'usage_post', 'usage_rollup_drift', 'usage_rollup_rebuild'
           ]))
    loop
        execute format('grant execute on function %s to raymart_runtime', v_function);
    end loop;
end $$;
