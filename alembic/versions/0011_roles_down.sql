-- Back to an owner that does everything. The role itself stays: other databases of the server may use it.

alter default privileges grant execute on functions to public;
alter default privileges in schema public revoke usage on sequences from raymart_runtime;
alter default privileges in schema public revoke select, insert, update, delete on tables from raymart_runtime;
revoke all on all functions in schema public from raymart_runtime;
revoke all on all sequences in schema public from raymart_runtime;
revoke all on all tables in schema public from raymart_runtime;
revoke all on schema public from raymart_runtime;

-- Those that 0001 to 0010 had left to everybody: functions with their caller's rights.
do $$
declare
    v_function regprocedure;
begin
    for v_function in
        select oid from pg_proc
         where pronamespace = 'public'::regnamespace and prokind = 'f' and prorettype <> 'trigger'::regtype
           and proowner = current_user::regrole and not prosecdef
    loop
        execute format('grant execute on function %s to public', v_function);
    end loop;
end $$;
