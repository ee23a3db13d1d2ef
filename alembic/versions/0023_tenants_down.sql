-- Back to what each statement says, and nothing behind it. The role itself stays: other databases of the server may use it.

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
            v_made := v_made + 1;
        end loop;
    end loop;
    return v_made;
end $$;

drop function budget_set(uuid, uuid, text, uuid, text, bigint, uuid);
alter function budget_set_for_any(uuid, uuid, text, uuid, text, bigint, uuid) rename to budget_set;
drop function budget_remove(uuid, uuid);
alter function budget_remove_for_any(uuid, uuid) rename to budget_remove;
grant execute on function
    budget_set(uuid, uuid, text, uuid, text, bigint, uuid), budget_remove(uuid, uuid)
to raymart_runtime;

do $$
declare
    v_policy record;
    v_table regclass;
begin
    for v_policy in
        select p.polname, p.polrelid::regclass as on_table from pg_policy p join pg_class c on c.oid = p.polrelid
         where p.polname = any (array[
            'runtime', 'owner', 'tenant_sees', 'tenant_adds', 'tenant_changes', 'tenant_removes'
         ])
    loop
        execute format('drop policy %I on %s', v_policy.polname, v_policy.on_table);
    end loop;
    for v_table in select oid from pg_class where relrowsecurity and relowner = current_user::regrole loop
        execute format('alter table %s no force row level security', v_table);
        execute format('alter table %s disable row level security', v_table);
    end loop;
end $$;

revoke all on all tables in schema public from raymart_tenant;
revoke all on all functions in schema public from raymart_tenant;
revoke all on schema public from raymart_tenant;
drop function tenant_isolate(regclass, text, text);
drop function tenant_require(uuid);
drop function tenant_accounts();
drop function tenant_providers();
drop function tenant_sees_market();
drop function tenant_user();
drop function tenant_organizations();
