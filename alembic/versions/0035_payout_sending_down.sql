drop index ix_payout_part_marked;
drop index ix_payout_part_held;
alter table payout_part drop column attempts_released;
drop index ix_payout_attempt_opens;
alter table payout_attempt drop column opens, drop column purpose;

create or replace function payout_part_guard() returns trigger language plpgsql set search_path = public, pg_temp as $$
declare
    v_free text[] := array[
        'generation', 'state', 'state_reason', 'total_micro_usdc', 'marker', 'attempts', 'signature', 'slot', 'fee_lamports',
        'finalized_at', 'marker_reclaimed_at', 'fence', 'locked_until'
    ];
begin
    if tg_op = 'INSERT' then
        perform payout_refuse_unapproved(new.batch_id, 'payout_part');
        if new.state <> 'planned' or new.attempts > 0 then
            perform payout_refuse('ck_payout_part_begins_planned', 'payout_part', 'a part begins planned');
        end if;
        return new;
    end if;
    perform payout_keep('payout_part', to_jsonb(old), to_jsonb(new), v_free);
    if new.generation < old.generation or new.attempts < old.attempts or new.fence < old.fence
       or new.total_micro_usdc > old.total_micro_usdc then
        perform payout_refuse('ck_payout_part_goes_on', 'payout_part',
            'generation, attempts and fence of a part never fall, and what it pays never rises');
    end if;
    if old.state = 'finalized' and new.state not in ('finalized', 'held') then
        perform payout_refuse('ck_payout_part_finalized_stays', 'payout_part', 'a part that is final stays so');
    end if;
    if new.state = 'signed' and old.state <> 'signed' then
        perform payout_begin_sending(new.batch_id, 'payout_part');
    end if;
    return new;
end $$;
