do $$
declare
    v_table text;
begin
    foreach v_table in array array[
        'membership', 'invitation', 'project', 'service_account', 'billing_profile', 'deposit', 'credit_grant',
        'balance_adjustment', 'wallet_proof', 'provider', 'privacy_export'
    ] loop
        execute format('drop trigger refuse_erased on %I', v_table);
    end loop;
end $$;
drop function erasure_refuse_new();
drop table organization_erasure;
drop function erasure_refuse();
