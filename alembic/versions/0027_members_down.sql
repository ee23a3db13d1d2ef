drop policy tenant_sees on "user";
create policy tenant_sees on "user" for select to raymart_tenant using (
    id = (select tenant_user()) or exists (select from membership m where m.user_id = "user".id)
);
alter table project drop column archived_at;
drop table support_access;
drop table invitation;
