-- What holds of payouts whoever writes: nobody approves what they planned, two people above the threshold, caps, the kill
-- switch, and nothing of what was approved changes.
--
-- Two advisory locks, for one transaction each, in this order:
--   payout_approval  exclusive by an approval and by a new policy: two approvals at once are not both within the day's cap
--   payout_switch    exclusive by who stops payouts, shared by who approves or signs: after the stop has committed,
--                    nothing that had looked before it commits

create function payout_refuse(p_constraint text, p_table text, p_message text, p_hint text default null) returns void
language plpgsql set search_path = public, pg_temp as $$
begin
    raise exception using
        errcode = 'check_violation', constraint = p_constraint, table = p_table, message = p_message,
        hint = coalesce(p_hint, '');
end $$;

create function payout_refuse_change() returns trigger language plpgsql set search_path = public, pg_temp as $$
begin
    raise exception using
        errcode = 'insufficient_privilege', table = tg_table_name, constraint = 'ck_' || tg_table_name || '_immutable',
        message = tg_op || ' on ' || tg_table_name || ' is refused: what was written about payouts stays as it is';
end $$;

-- Refuses a change of `p_old` to `p_new` in other columns than `p_free`.
create function payout_keep(p_table text, p_old jsonb, p_new jsonb, p_free text[]) returns void
language plpgsql set search_path = public, pg_temp as $$
declare
    v_changed text;
begin
    select string_agg(key, ', ' order by key) into v_changed
      from jsonb_each(p_new - p_free) n where n.value is distinct from p_old -> n.key;
    if v_changed is not null then
        raise exception using
            errcode = 'insufficient_privilege', table = p_table, constraint = 'ck_' || p_table || '_immutable',
            message = 'UPDATE on ' || p_table || ' is refused: ' || v_changed || ' never changes';
    end if;
end $$;

-- Waits for a stop that is about to commit, then says whether payouts are stopped.
create function payout_refuse_paused(p_table text) returns void language plpgsql set search_path = public, pg_temp as $$
declare
    v_reason text;
begin
    perform pg_advisory_xact_lock_shared(hashtextextended('payout_switch', 0));
    select reason into v_reason from payout_switch where resumed_at is null order by paused_at limit 1;
    if found then
        perform payout_refuse(
            'ck_payout_not_paused', p_table, 'payouts are stopped: ' || v_reason, 'resume them when the cause is gone'
        );
    end if;
end $$;


-- Approval -------------------------------------------------------------------------------------------------------

create function payout_check_sums(p_batch payout_batch) returns void
language plpgsql set search_path = public, pg_temp as $$
declare
    v_total numeric;
    v_payees bigint;
begin
    select coalesce(sum(amount_micro_usdc), 0), count(*) into v_total, v_payees
      from payout_item where batch_id = p_batch.id and state = 'planned';
    if v_total <> p_batch.total_micro_usdc or v_payees <> p_batch.payees then
        perform payout_refuse('ck_payout_batch_total_is_its_items', 'payout_batch',
            'batch ' || p_batch.number || ' says ' || p_batch.total_micro_usdc || ' to ' || p_batch.payees
            || ' payees, its items ' || v_total || ' to ' || v_payees);
    end if;
end $$;

create function payout_check_people(p_batch payout_batch, p_policy payout_policy) returns void
language plpgsql set search_path = public, pg_temp as $$
declare
    v_needed integer := case when p_batch.total_micro_usdc > p_policy.four_eyes_above_micro_usdc then 2 else 1 end;
    v_given integer;
begin
    select count(*) into v_given from payout_approval
     where batch_id = p_batch.id and total_micro_usdc = p_batch.total_micro_usdc
       and user_id is distinct from p_batch.created_by;
    if v_given < v_needed then
        perform payout_refuse('ck_payout_batch_is_approved', 'payout_batch',
            'batch ' || p_batch.number || ' of ' || p_batch.total_micro_usdc || ' micro-USDC has ' || v_given
            || ' approvals of people who did not plan it, and needs ' || v_needed);
    end if;
end $$;

create function payout_check_caps(p_batch payout_batch, p_policy payout_policy) returns void
language plpgsql set search_path = public, pg_temp as $$
declare
    v_today numeric;
begin
    if p_batch.total_micro_usdc > p_policy.batch_cap_micro_usdc then
        perform payout_refuse('ck_payout_batch_cap', 'payout_batch',
            'batch ' || p_batch.number || ' pays ' || p_batch.total_micro_usdc || ' micro-USDC; the most for a batch is '
            || p_policy.batch_cap_micro_usdc, 'split it, or set a policy with a higher cap');
    end if;
    select coalesce(sum(total_micro_usdc), 0) into v_today from payout_batch
     where approved_at > clock_timestamp() - interval '24 hours' and state <> 'cancelled' and id <> p_batch.id;
    if v_today + p_batch.total_micro_usdc > p_policy.day_cap_micro_usdc then
        perform payout_refuse('ck_payout_batch_day_cap', 'payout_batch',
            v_today || ' micro-USDC were approved in the last 24 hours; with ' || p_batch.total_micro_usdc
            || ' of batch ' || p_batch.number || ' it would be more than ' || p_policy.day_cap_micro_usdc,
            'wait, split it, or set a policy with a higher cap');
    end if;
end $$;

create function payout_check_approval(p_batch payout_batch) returns void
language plpgsql set search_path = public, pg_temp as $$
declare
    v_policy payout_policy;
begin
    perform pg_advisory_xact_lock(hashtextextended('payout_approval', 0));
    perform payout_refuse_paused('payout_batch');
    select * into strict v_policy from payout_policy order by version desc limit 1;
    perform payout_check_sums(p_batch);
    perform payout_check_people(p_batch, v_policy);
    perform payout_check_caps(p_batch, v_policy);
end $$;

create function payout_approval_guard() returns trigger language plpgsql set search_path = public, pg_temp as $$
declare
    v_batch payout_batch;
begin
    if tg_op = 'UPDATE' then
        perform payout_keep('payout_approval', to_jsonb(old), to_jsonb(new), array['decided_at', 'total_micro_usdc']);
    end if;
    -- Against a total that changes meanwhile.
    select * into v_batch from payout_batch where id = new.batch_id for no key update;
    if new.user_id = v_batch.created_by then
        perform payout_refuse('ck_payout_approval_by_another', 'payout_approval',
            'batch ' || v_batch.number || ' was planned by the one who approves it', 'ask somebody else to approve it');
    end if;
    if v_batch.state not in ('planned', 'reviewed') then
        perform payout_refuse('ck_payout_approval_of_open_batch', 'payout_approval',
            'batch ' || v_batch.number || ' is ' || v_batch.state || ' and takes no approvals');
    end if;
    if new.total_micro_usdc <> v_batch.total_micro_usdc then
        perform payout_refuse('ck_payout_approval_of_present_total', 'payout_approval',
            'the approval is of ' || new.total_micro_usdc || ' micro-USDC, batch ' || v_batch.number || ' pays '
            || v_batch.total_micro_usdc, 'look at the batch again');
    end if;
    new.decided_at := clock_timestamp();
    return new;
end $$;
create trigger guard before insert or update on payout_approval
    for each row execute function payout_approval_guard();


-- Batches --------------------------------------------------------------------------------------------------------

create function payout_batch_may(p_from text, p_to text) returns boolean language sql immutable as $$
    select p_from = p_to or p_to = any (case p_from
        when 'planned' then array['reviewed', 'approved', 'held', 'cancelled']
        when 'reviewed' then array['planned', 'approved', 'held', 'cancelled']
        when 'approved' then array['sending', 'held', 'cancelled']
        when 'sending' then array['finalized', 'held']
        -- By what was approved before, see the guard.
        when 'held' then array['planned', 'reviewed', 'approved', 'sending', 'cancelled']
        -- A chain that took back what it called final.
        when 'finalized' then array['held']
        else array[]::text[]
    end)
$$;

create function payout_batch_check_end(p_batch payout_batch) returns void
language plpgsql set search_path = public, pg_temp as $$
begin
    if p_batch.state = 'cancelled' and exists (
        select from payout_item where batch_id = p_batch.id and state <> 'returned'
    ) then
        perform payout_refuse('ck_payout_batch_cancelled_is_returned', 'payout_batch',
            'batch ' || p_batch.number || ' still has money of its payees');
    end if;
    if p_batch.state = 'cancelled' and exists (
        select from payout_part p where p.batch_id = p_batch.id
           and (p.state <> 'planned' or p.attempts > 0 or exists (select from payout_attempt a where a.part_id = p.id))
    ) then
        perform payout_refuse('ck_payout_batch_cancelled_unsigned', 'payout_batch',
            'something of batch ' || p_batch.number || ' was signed and may land', 'hold it instead');
    end if;
    if p_batch.state = 'finalized' and exists (
        select from payout_item where batch_id = p_batch.id and state = 'planned'
    ) then
        perform payout_refuse('ck_payout_batch_finalized_is_paid', 'payout_batch',
            'batch ' || p_batch.number || ' has payees that were not paid');
    end if;
end $$;

create function payout_batch_guard() returns trigger language plpgsql set search_path = public, pg_temp as $$
declare
    v_free text[] := array['state', 'hold_reason', 'approved_at', 'finished_at'];
begin
    if tg_op = 'INSERT' then
        if new.state not in ('planned', 'held') or new.approved_at is not null then
            perform payout_refuse('ck_payout_batch_begins_planned', 'payout_batch', 'a batch begins planned or held');
        end if;
        return new;
    end if;
    if old.approved_at is null then
        v_free := v_free || array['total_micro_usdc', 'payees'];
    end if;
    perform payout_keep('payout_batch', to_jsonb(old), to_jsonb(new), v_free);
    if not payout_batch_may(old.state, new.state) then
        perform payout_refuse('ck_payout_batch_next_state', 'payout_batch',
            'batch ' || old.number || ' is ' || old.state || ' and does not become ' || new.state);
    end if;
    if old.approved_at is not null then
        new.approved_at := old.approved_at;
    elsif new.state in ('approved', 'sending', 'finalized') then
        perform payout_check_approval(new);
        new.approved_at := clock_timestamp();
    else
        new.approved_at := null;
    end if;
    if new.state <> old.state then
        perform payout_batch_check_end(new);
    end if;
    return new;
end $$;
create trigger guard before insert or update on payout_batch for each row execute function payout_batch_guard();


-- Items ----------------------------------------------------------------------------------------------------------

create function payout_item_check_state(p_old payout_item, p_new payout_item) returns void
language plpgsql set search_path = public, pg_temp as $$
begin
    if p_new.state <> p_old.state and not (
        p_old.state = 'planned' or (p_old.state = 'quarantined' and p_new.state in ('planned', 'paid', 'returned'))
    ) then
        perform payout_refuse('ck_payout_item_next_state', 'payout_item',
            'an item that is ' || p_old.state || ' does not become ' || p_new.state);
    end if;
    if p_new.state = 'returned' and p_old.state <> 'returned' and exists (
        select from payout_attempt where part_id = p_old.part_id
           and (state = 'live' or (state = 'landed' and p_old.state = 'planned'))
    ) then
        perform payout_refuse('ck_payout_item_returned_is_dead', 'payout_item',
            'a transaction that may pay the item is live or has landed');
    end if;
end $$;

-- Whether a batch is approved or over, and so keeps its items. One that is not cannot become so before this transaction ends.
create function payout_is_approved(p_batch_id uuid) returns boolean
language plpgsql set search_path = public, pg_temp as $$
begin
    -- Once approved a batch stays so: no lock then, and who settles items of two parts at once waits for nobody.
    if exists (select from payout_batch where id = p_batch_id and (approved_at is not null or state = 'cancelled')) then
        return true;
    end if;
    perform from payout_batch where id = p_batch_id for share;
    return exists (select from payout_batch where id = p_batch_id and (approved_at is not null or state = 'cancelled'));
end $$;

create function payout_item_guard() returns trigger language plpgsql set search_path = public, pg_temp as $$
declare
    v_free text[] := array['state', 'reason', 'part_id'];
    v_approved boolean;
begin
    v_approved := payout_is_approved(new.batch_id)
        or (tg_op = 'UPDATE' and new.batch_id <> old.batch_id and payout_is_approved(old.batch_id));
    if tg_op = 'INSERT' then
        if v_approved or new.state <> 'planned' or new.part_id is not null then
            perform payout_refuse('ck_payout_item_before_approval', 'payout_item',
                'items are added to a batch before it is approved, planned and in no part');
        end if;
        return new;
    end if;
    if not v_approved then
        v_free := v_free || array['batch_id', 'position'];
    end if;
    perform payout_keep('payout_item', to_jsonb(old), to_jsonb(new), v_free);
    if old.part_id is distinct from new.part_id and old.part_id is not null and not exists (
        select from payout_part where id = old.part_id and state = 'failed'
    ) then
        perform payout_refuse('ck_payout_item_part_is_kept', 'payout_item',
            'the item''s part may still pay it', 'only a part that failed gives its items away');
    end if;
    perform payout_item_check_state(old, new);
    return new;
end $$;
create trigger guard before insert or update on payout_item for each row execute function payout_item_guard();


-- Parts and attempts ---------------------------------------------------------------------------------------------

create function payout_refuse_unapproved(p_batch_id uuid, p_table text) returns void
language plpgsql set search_path = public, pg_temp as $$
declare
    v_number bigint;
    v_state text;
begin
    -- Against a hold meanwhile, which writes the batch's row.
    select number, state into v_number, v_state from payout_batch where id = p_batch_id for share;
    if v_state not in ('approved', 'sending') then
        perform payout_refuse('ck_payout_of_approved_batch', p_table,
            'batch ' || v_number || ' is ' || v_state || '; only what is approved is sent');
    end if;
end $$;

-- The same for who signs, and the batch is then being sent. Its row is written before it is locked for sharing: two who
-- sign parts of one batch would else each wait for the other's share.
create function payout_begin_sending(p_batch_id uuid, p_table text) returns void
language plpgsql set search_path = public, pg_temp as $$
begin
    perform payout_refuse_paused(p_table);
    update payout_batch set state = 'sending' where id = p_batch_id and state = 'approved';
    perform payout_refuse_unapproved(p_batch_id, p_table);
end $$;

create function payout_part_guard() returns trigger language plpgsql set search_path = public, pg_temp as $$
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
create trigger guard before insert or update on payout_part for each row execute function payout_part_guard();

-- At the commit: the items are put into their parts after the parts are made.
create function payout_part_check_sum() returns trigger language plpgsql set search_path = public, pg_temp as $$
declare
    v_total numeric;
begin
    select coalesce(sum(amount_micro_usdc), 0) into v_total from payout_item where part_id = new.id;
    if v_total <> new.total_micro_usdc then
        perform payout_refuse('ck_payout_part_total_is_its_items', 'payout_part',
            'part ' || new.position || ' says ' || new.total_micro_usdc || ' micro-USDC, its items ' || v_total);
    end if;
    return null;
end $$;
create constraint trigger check_sum after insert on payout_part
    deferrable initially deferred for each row execute function payout_part_check_sum();

create function payout_attempt_guard() returns trigger language plpgsql set search_path = public, pg_temp as $$
begin
    if tg_op = 'INSERT' then
        if new.state <> 'live' then
            perform payout_refuse('ck_payout_attempt_begins_live', 'payout_attempt', 'an attempt begins live');
        end if;
        perform payout_begin_sending((select batch_id from payout_part where id = new.part_id), 'payout_attempt');
        return new;
    end if;
    perform payout_keep('payout_attempt', to_jsonb(old), to_jsonb(new), array['state', 'error', 'resolved_at']);
    -- What seemed dead may turn out to have landed; what has landed stays so.
    if old.state <> new.state and not (old.state = 'live' or (old.state in ('expired', 'failed') and new.state = 'landed')) then
        perform payout_refuse('ck_payout_attempt_next_state', 'payout_attempt',
            'an attempt that is ' || old.state || ' does not become ' || new.state);
    end if;
    return new;
end $$;
create trigger guard before insert or update on payout_attempt for each row execute function payout_attempt_guard();


-- Epochs, earnings, policies, the switch -------------------------------------------------------------------------

create function payout_epoch_guard() returns trigger language plpgsql set search_path = public, pg_temp as $$
declare
    v_last epoch;
begin
    if tg_op = 'UPDATE' then
        perform payout_keep('epoch', to_jsonb(old), to_jsonb(new),
            case when old.closed_at is null then array['closed_at'] else array[]::text[] end);
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
create trigger guard before insert or update on epoch for each row execute function payout_epoch_guard();

create function payout_earning_guard() returns trigger language plpgsql set search_path = public, pg_temp as $$
declare
    v_upto bigint;
begin
    if tg_op = 'UPDATE' then
        perform payout_keep('earning', to_jsonb(old), to_jsonb(new),
            array['unpaid_reason'] || case when old.released_at is null then array['released_at'] else array[]::text[] end);
        return new;
    end if;
    select coalesce(max(upto_transfer_id), 0) into v_upto from earning where provider_id = new.provider_id;
    if new.after_transfer_id <> v_upto then
        perform payout_refuse('ck_earning_joins_previous', 'earning',
            'the earning begins after transfer ' || new.after_transfer_id || ', the one before ended with ' || v_upto);
    end if;
    return new;
end $$;
create trigger guard before insert or update on earning for each row execute function payout_earning_guard();

create function payout_policy_guard() returns trigger language plpgsql set search_path = public, pg_temp as $$
begin
    perform pg_advisory_xact_lock(hashtextextended('payout_approval', 0));
    if new.version <> (select coalesce(max(version), 0) + 1 from payout_policy) then
        perform payout_refuse('ck_payout_policy_is_next', 'payout_policy',
            'version ' || new.version || ' does not follow the newest; somebody was faster', 'read the policy again');
    end if;
    return new;
end $$;
create trigger guard before insert on payout_policy for each row execute function payout_policy_guard();
create trigger refuse_change before update on payout_policy for each row execute function payout_refuse_change();

create function payout_switch_guard() returns trigger language plpgsql set search_path = public, pg_temp as $$
begin
    if tg_op = 'UPDATE' then
        perform payout_keep('payout_switch', to_jsonb(old), to_jsonb(new),
            case when old.resumed_at is null then array['resumed_at', 'resumed_by', 'resumed_reason'] else array[]::text[] end);
        return new;
    end if;
    perform pg_advisory_xact_lock(hashtextextended('payout_switch', 0));
    return new;
end $$;
create trigger guard before insert or update on payout_switch for each row execute function payout_switch_guard();

do $$
declare
    v_table text;
    v_function regprocedure;
begin
    foreach v_table in array array[
        'epoch', 'earning', 'payout_policy', 'payout_switch', 'payout_batch', 'payout_approval', 'payout_part',
        'payout_item', 'payout_attempt'
    ] loop
        execute format(
            'create trigger refuse_removal before delete or truncate on %I'
            ' for each statement execute function payout_refuse_change()', v_table
        );
    end loop;
    for v_function in
        select oid from pg_proc
         where pronamespace = 'public'::regnamespace and proname ~ '^payout_' and prorettype <> 'trigger'::regtype
    loop
        execute format('grant execute on function %s to raymart_runtime', v_function);
    end loop;
end $$;
