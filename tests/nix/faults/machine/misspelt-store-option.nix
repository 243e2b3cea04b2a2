# expect: The option `services.streamdb.prot' does not exist
{ services.streamdb.prot = 8081; }
