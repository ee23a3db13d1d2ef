-- What an attempt is for. One that pays or burns creates the part's marker; one that opens creates token accounts of
-- payees at our cost, which are named so that nobody is given more than one.
alter table payout_attempt
    add column purpose varchar(32) not null default 'pay',
    add column opens varchar[] not null default '{}',
    add constraint ck_payout_attempt_purpose check (purpose in ('pay', 'burn', 'open')),
    add constraint ck_payout_attempt_opens_accounts check ((purpose = 'open') = (cardinality(opens) > 0));
create index ix_payout_attempt_opens on payout_attempt using gin (opens) where purpose = 'open';

-- Attempts made before a person last released the part: the cap counts those since.
alter table payout_part
    add column attempts_released integer not null default 0,
    add constraint ck_payout_part_attempts_released_were_made check (attempts_released between 0 and attempts);
create index ix_payout_part_held on payout_part (id) where state = 'held' and marker is not null;
create index ix_payout_part_marked on payout_part (finalized_at)
    where state = 'finalized' and marker_reclaimed_at is null;

create or replace function payout_part_guard() returns trigger language plpgsql set search_path = public, pg_temp as $$
declare
    v_free text[] := array[
        'generation', 'state', 'state_reason', 'total_micro_usdc', 'marker', 'attempts', 'attempts_released',
        'signature', 'slot', 'fee_lamports', 'finalized_at', 'marker_reclaimed_at', 'fence', 'locked_until'
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
    if new.generation < old.generation or new.attempts < old.attempts
       or new.attempts_released < old.attempts_released or new.fence < old.fence
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
