drop table pool_member;
drop table pool_authority;
