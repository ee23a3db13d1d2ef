-- When an epoch's batch was planned by the clock: it is once; who could not be paid then is planned on demand.

alter table epoch add column planned_at timestamp with time zone;

create or replace function payout_epoch_guard() returns trigger language plpgsql set search_path = public, pg_temp as $$
declare
    v_last epoch;
begin
    if tg_op = 'UPDATE' then
        perform payout_keep('epoch', to_jsonb(old), to_jsonb(new), array[
            case when old.closed_at is null then 'closed_at' end, case when old.planned_at is null then 'planned_at' end
        ]);
        return new;
    end if;
    perform pg_advisory_xact_lock(hashtextextended('payout_epoch', 0));
    select * into v_last from epoch order by number desc limit 1;
    if found and (new.number, new.starts_at) <> (v_last.number + 1, v_last.ends_at) or not found and new.number <> 1 then
        perform payout_refuse('ck_epoch_joins_previous', 'epoch',
            'epoch ' || new.number || ' does not begin where the one before ended');
    end if;
    if new.ends_at > clock_timestamp() then
        perform payout_refuse('ck_epoch_is_over', 'epoch', 'an epoch is written down when it is over');
    end if;
    return new;
end $$;
