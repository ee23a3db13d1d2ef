-- What each role may do is in `raymart_marketplace/accounts/permissions.py`; the database knows their names.

alter table membership drop constraint ck_membership_role;
alter table membership add constraint ck_membership_role
    check (role in ('owner', 'admin', 'developer', 'billing', 'operator', 'finance', 'support', 'viewer'));
