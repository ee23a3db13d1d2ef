drop policy tenant_sees on "user";
create policy tenant_sees on "user" for select to raymart_tenant using (
    case when (id = (select tenant_user()) or exists (select from membership m where m.user_id = "user".id))
    then true else false end
);
alter table project drop column archived_at;
drop table support_access;
drop table invitation;
