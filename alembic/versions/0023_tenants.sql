-- Row-level security: who acts for a tenant takes the role `raymart_tenant` and names the tenant, for one transaction,
--
--     select set_config('role', 'raymart_tenant', true), set_config('app.organizations', '{...}', true),
--            set_config('app.user', '...', true)
--
-- and then sees and writes that tenant's rows and no others, whatever the statement says. Without a tenant: none.
-- `raymart_runtime` (gateway, workers, jobs) and the owner, whose functions move money, have policies of their own.

do $$ begin
    if not exists (select from pg_roles where rolname = 'raymart_tenant') then
        create role raymart_tenant nologin;
    end if;
exception
    when duplicate_object or unique_violation then null; -- Another database's migration was faster.
    when insufficient_privilege then
        raise exception using
            errcode = 'insufficient_privilege',
            message = 'there is no role raymart_tenant, and ' || current_user || ' may not make one',
            hint = 'as a superuser: create role raymart_tenant nologin; grant raymart_tenant to raymart_runtime';
end $$;
do $$ begin
    if not pg_has_role('raymart_runtime', 'raymart_tenant', 'member') then
        grant raymart_tenant to raymart_runtime;
    end if;
exception
    when unique_violation then null;
    when insufficient_privilege then
        raise exception using
            errcode = 'insufficient_privilege',
            message = 'raymart_runtime is no member of raymart_tenant, and ' || current_user || ' may not make it one',
            hint = 'as a superuser: grant raymart_tenant to raymart_runtime';
end $$;
grant usage on schema public to raymart_tenant;

-- Whose rows. Each is called once a statement: policies wrap it in a sub-select.
create function tenant_organizations() returns uuid[] language sql stable parallel safe as $$
    select coalesce(nullif(current_setting('app.organizations', true), ''), '{}')::uuid[]
$$;
create function tenant_user() returns uuid language sql stable parallel safe as $$
    select nullif(current_setting('app.user', true), '')::uuid
$$;
-- Whether one of the platform's people who sees no tenant by their role looks at the market as a whole.
create function tenant_sees_market() returns boolean language sql stable parallel safe as $$
    select coalesce(current_setting('app.market', true), '') = 'on'
$$;
create function tenant_providers() returns uuid[] language sql stable parallel safe as $$
    select coalesce(array_agg(id), '{}') from provider where organization_id = any (tenant_organizations())
$$;
create function tenant_accounts() returns bigint[] language sql stable parallel safe as $$
    select coalesce(array_agg(id), '{}') from ledger_account
     where owner_id = any (tenant_organizations() || tenant_providers())
$$;

-- For functions with their owner's rights that a tenant may call. A definer's own role hides the caller's, the setting does not.
create function tenant_require(p_organization uuid) returns void language plpgsql stable as $$
begin
    if current_setting('role') = 'raymart_tenant' and not coalesce(p_organization = any (tenant_organizations()), false) then
        raise exception using
            errcode = 'insufficient_privilege', message = 'not of this tenant', detail = 'organization ' || p_organization;
    end if;
end $$;

-- Put `p_table` under row-level security. A tenant sees the rows for which `p_sees` holds and writes those for which
-- `p_writes` does; without them nothing. The runtime and the owner keep what their grants say.
create function tenant_isolate(p_table regclass, p_sees text default null, p_writes text default null) returns void
language plpgsql set search_path = public, pg_temp as $$
begin
    execute format('alter table %s enable row level security', p_table);
    execute format('alter table %s force row level security', p_table);
    execute format('create policy runtime on %s to raymart_runtime using (true) with check (true)', p_table);
    execute format('create policy owner on %s to %I using (true) with check (true)', p_table, current_user);
    if p_sees is not null then
        execute format('grant select on %s to raymart_tenant', p_table);
        -- A bare "= any" would have the planner expect a row or two, and so fetch and sort all that an organization has
        -- for the newest fifty. Of a CASE it expects half of the rows, and reads the index from its end.
        execute format(
            'create policy tenant_sees on %s for select to raymart_tenant using (%s)', p_table,
            case p_sees when 'true' then p_sees else format('case when (%s) then true else false end', p_sees) end
        );
    end if;
    if p_writes is not null then
        execute format('grant insert, update, delete on %s to raymart_tenant', p_table);
        execute format('create policy tenant_adds on %s for insert to raymart_tenant with check (%s)', p_table, p_writes);
        execute format(
            'create policy tenant_changes on %s for update to raymart_tenant using (%s) with check (%s)',
            p_table, p_writes, p_writes
        );
        execute format('create policy tenant_removes on %s for delete to raymart_tenant using (%s)', p_table, p_writes);
    end if;
end $$;

do $$
declare
    c_own constant text := 'organization_id = any ((select tenant_organizations())::uuid[])';
    c_providers constant text := 'provider_id = any ((select tenant_providers())::uuid[])';
    c_all constant text := 'true';
    v_table text;
begin
    -- The market's public face. Drafts and asks' floors are kept from strangers by the API, which knows columns.
    foreach v_table in array array[
        'model', 'model_revision', 'endpoint', 'rate_card', 'price', 'price_cap', 'fee_schedule', 'pool',
        'service_figures'
    ] loop
        perform tenant_isolate(v_table::regclass, c_all);
    end loop;
    perform tenant_isolate('provider', c_all, c_own);
    perform tenant_isolate('offer', c_all, c_providers);
    foreach v_table in array array['offer_ask', 'offer_window'] loop
        perform tenant_isolate(
            v_table::regclass, c_all,
            format('exists (select from offer o where o.id = %I.offer_id and o.%s)', v_table, c_providers)
        );
    end loop;
    perform tenant_isolate('offer_window_ask', c_all, format(
        'exists (select from offer_window w join offer o on o.id = w.offer_id where w.id = offer_window_ask.window_id and o.%s)',
        c_providers
    ));

    -- A tenant's own.
    perform tenant_isolate('organization', replace(c_own, 'organization_id', 'id'), replace(c_own, 'organization_id', 'id'));
    perform tenant_isolate(
        'user', 'id = (select tenant_user()) or exists (select from membership m where m.user_id = "user".id)'
    );
    perform tenant_isolate('user_session', 'user_id = (select tenant_user())', 'user_id = (select tenant_user())');
    foreach v_table in array array['totp_credential', 'recovery_code'] loop
        perform tenant_isolate(v_table::regclass, 'user_id = (select tenant_user())');
    end loop;
    foreach v_table in array array['membership', 'project', 'billing_profile', 'alert_threshold', 'wallet_proof'] loop
        perform tenant_isolate(v_table::regclass, c_own, c_own);
    end loop;
    perform tenant_isolate(
        'api_key', 'exists (select from project p where p.id = api_key.project_id)',
        format('exists (select from project p where p.id = api_key.project_id and p.%s)', c_own)
    );
    foreach v_table in array array[
        'request', 'invoice', 'credit_note', 'refund', 'deposit', 'dispute', 'credit_grant', 'alert',
        'credit_checkpoint', 'balance_adjustment', 'billing_block', 'billing_block_change', 'budget', 'credit_lease',
        'suspension', 'audit_entry'
    ] loop
        perform tenant_isolate(v_table::regclass, c_own);
    end loop;
    foreach v_table in array array['usage_hour', 'usage_day', 'usage_day_part'] loop
        perform tenant_isolate(v_table::regclass, c_own || ' or ' || c_providers || ' or (select tenant_sees_market())');
    end loop;
    -- A provider sees what it earned by; the API does not show it whose request that was.
    perform tenant_isolate('usage_record', c_own || ' or ' || c_providers);
    perform tenant_isolate(
        'attempt', c_providers || ' or exists (select from request r where r.id = attempt.request_id)'
    );
    perform tenant_isolate('invoice_line', 'exists (select from invoice i where i.id = invoice_line.invoice_id)');
    perform tenant_isolate(
        'credit_note_line', 'exists (select from credit_note n where n.id = credit_note_line.credit_note_id)'
    );
    perform tenant_isolate('audit_origin', 'exists (select from audit_entry e where e.id = audit_origin.entry_id)');
    perform tenant_isolate('deposit_refund', 'exists (select from deposit d where d.id = deposit_refund.deposit_id)');
    perform tenant_isolate('budget_period', 'exists (select from budget b where b.id = budget_period.budget_id)');
    perform tenant_isolate('lease_budget', 'exists (select from credit_lease l where l.id = lease_budget.lease_id)');
    perform tenant_isolate(
        'ledger_account', 'owner_id = any ((select tenant_organizations() || tenant_providers())::uuid[])'
    );
    perform tenant_isolate(
        'transfer', 'debit_account_id = any ((select tenant_accounts())::bigint[])'
        ' or credit_account_id = any ((select tenant_accounts())::bigint[])'
    );
    perform tenant_isolate('account_snapshot', 'account_id = any ((select tenant_accounts())::bigint[])');

    -- A provider's own.
    foreach v_table in array array['node', 'join_token'] loop
        perform tenant_isolate(v_table::regclass, c_providers, c_providers);
    end loop;
    perform tenant_isolate('node_presence', 'exists (select from node n where n.id = node_presence.node_id)');
    perform tenant_isolate('placement', 'exists (select from node n where n.id = placement.node_id)');

    -- The platform's: its people without a reach see these, and no tenant does.
    foreach v_table in array array['outbox', 'task_run', 'periodic_job', 'work_action'] loop
        perform tenant_isolate(v_table::regclass, '(select tenant_sees_market())');
    end loop;

    -- Nobody's but the marketplace's own processes.
    for v_table in
        select c.oid::regclass::text from pg_class c
         where c.relnamespace = 'public'::regnamespace and c.relkind in ('r', 'p') and not c.relrowsecurity
           and c.relowner = current_user::regrole and c.relname <> 'alembic_version'
    loop
        perform tenant_isolate(v_table::regclass);
    end loop;
    -- Reached through their parents, whose policies hold; by themselves they are nobody's.
    for v_table in
        select c.oid::regclass::text from pg_inherits i join pg_class c on c.oid = i.inhrelid
         where c.relnamespace = 'usage_month'::regnamespace and c.relkind = 'r'
    loop
        perform tenant_isolate(v_table::regclass);
    end loop;
end $$;
grant select on transfer_code to raymart_tenant;
create policy tenant_sees on transfer_code for select to raymart_tenant using (true);

-- Of the functions with their owner's rights a tenant calls these two, for its own organization.
alter function budget_set(uuid, uuid, text, uuid, text, bigint, uuid) rename to budget_set_for_any;
revoke execute on function budget_set_for_any(uuid, uuid, text, uuid, text, bigint, uuid) from raymart_runtime;
create function budget_set(
    p_id uuid, p_organization uuid, p_scope text, p_scope_id uuid, p_period text, p_limit bigint, p_actor uuid
) returns uuid
language plpgsql security definer set search_path = public, pg_temp as $$
begin
    perform tenant_require(p_organization);
    return budget_set_for_any(p_id, p_organization, p_scope, p_scope_id, p_period, p_limit, p_actor);
end $$;
alter function budget_remove(uuid, uuid) rename to budget_remove_for_any;
revoke execute on function budget_remove_for_any(uuid, uuid) from raymart_runtime;
create function budget_remove(p_id uuid, p_organization uuid) returns boolean
language plpgsql security definer set search_path = public, pg_temp as $$
begin
    perform tenant_require(p_organization);
    return budget_remove_for_any(p_id, p_organization);
end $$;

-- Functions with their caller's rights: they see what the caller sees.
do $$
declare
    v_function regprocedure;
begin
    for v_function in
        select oid from pg_proc
         where pronamespace = 'public'::regnamespace and prokind = 'f' and prorettype <> 'trigger'::regtype
           and proowner = current_user::regrole and proname <> 'tenant_isolate'
           and (not prosecdef or proname = any (array['budget_set', 'budget_remove']))
    loop
        execute format('grant execute on function %s to raymart_runtime, raymart_tenant', v_function);
    end loop;
end $$;

-- As in 0006, and new months come under row-level security too.
create or replace function ensure_usage_partitions(p_from date, p_months integer) returns integer
language plpgsql security definer set search_path = public, pg_temp set lock_timeout = '5s' as $$
declare
    v_table text;
    v_key text;
    v_month timestamp;
    v_name text;
    v_low uuid;
    v_high uuid;
    v_made integer := 0;
begin
    if p_months not between 1 and 120 then
        raise exception using
            errcode = 'invalid_parameter_value', message = 'make 1 to 120 months at once, not ' || p_months;
    end if;
    perform pg_advisory_xact_lock(hashtextextended('usage_month', 0));
    for v_month in
        select month from generate_series(0, p_months - 1) n,
               lateral (select date_trunc('month', p_from::timestamp) + make_interval(months => n) as month) m
    loop
        v_low := usage_first_id(v_month);
        v_high := usage_first_id(v_month + interval '1 month');
        foreach v_table in array array['request', 'attempt', 'usage_record'] loop
            v_name := v_table || '_' || to_char(v_month, 'YYYYMM');
            v_key := case v_table when 'attempt' then 'request_id' else 'id' end;
            continue when to_regclass('usage_month.' || v_name) is not null
                       or to_regclass('usage_archive.' || v_name) is not null;
            execute format('lock table usage_month.%I in access exclusive mode', v_table || '_default');
            execute format(
                'create table usage_month.%I (like public.%I including defaults including constraints)', v_name, v_table
            );
            execute format(
                'with moved as (delete from usage_month.%I where %I >= %L and %I < %L returning *)
                 insert into usage_month.%I select * from moved',
                v_table || '_default', v_key, v_low, v_key, v_high, v_name
            );
            execute format(
                'alter table public.%I attach partition usage_month.%I for values from (%L) to (%L)',
                v_table, v_name, v_low, v_high
            );
            perform tenant_isolate(format('usage_month.%I', v_name)::regclass);
            v_made := v_made + 1;
        end loop;
    end loop;
    return v_made;
end $$;
