drop table self_billing_invoice;
drop function self_billing_refuse();
drop function self_billing_check();
