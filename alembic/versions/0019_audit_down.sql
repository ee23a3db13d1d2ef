-- What was recorded is lost with its tables.

drop function audit_forget_origins(uuid, uuid, timestamp with time zone);
drop function audit_seal_append(bigint, bigint[], bytea[]);
drop function audit_append(
    boolean, text, uuid, text, uuid, uuid, uuid, uuid, text, text, uuid, uuid[], text, jsonb, text, text
);
drop function audit_digest(bytea, text, text);
drop table audit_seal;
drop table audit_origin;
drop table audit_entry;
drop function audit_check_entry();
drop function audit_refuse();
