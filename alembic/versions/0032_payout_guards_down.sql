do $$
declare
    v_trigger record;
    v_function regprocedure;
begin
    for v_trigger in
        select t.tgname, t.tgrelid::regclass as table_name from pg_trigger t join pg_proc p on p.oid = t.tgfoid
         where not t.tgisinternal and p.pronamespace = 'public'::regnamespace and p.proname in (
            'payout_refuse', 'payout_refuse_change', 'payout_keep', 'payout_refuse_paused',
            'payout_check_sums', 'payout_check_people', 'payout_check_caps', 'payout_check_approval',
            'payout_approval_guard', 'payout_batch_may', 'payout_batch_check_end', 'payout_batch_guard',
            'payout_item_check_state', 'payout_is_approved', 'payout_item_guard',
            'payout_refuse_unapproved', 'payout_begin_sending', 'payout_part_guard',
            'payout_part_check_sum', 'payout_attempt_guard', 'payout_epoch_guard', 'payout_earning_guard',
            'payout_policy_guard', 'payout_switch_guard'
         )
    loop
        execute format('drop trigger %I on %s', v_trigger.tgname, v_trigger.table_name);
    end loop;
    for v_function in
        select oid from pg_proc where pronamespace = 'public'::regnamespace and proname in (
            'payout_refuse', 'payout_refuse_change', 'payout_keep', 'payout_refuse_paused',
            'payout_check_sums', 'payout_check_people', 'payout_check_caps', 'payout_check_approval',
            'payout_approval_guard', 'payout_batch_may', 'payout_batch_check_end', 'payout_batch_guard',
            'payout_item_check_state', 'payout_is_approved', 'payout_item_guard',
            'payout_refuse_unapproved', 'payout_begin_sending', 'payout_part_guard',
            'payout_part_check_sum', 'payout_attempt_guard', 'payout_epoch_guard', 'payout_earning_guard',
            'payout_policy_guard', 'payout_switch_guard'
        )
    loop
        execute format('drop function %s', v_function);
    end loop;
end $$;
