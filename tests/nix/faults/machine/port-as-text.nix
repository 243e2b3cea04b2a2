# expect: option `services.streamdb.port' is not of type
{ services.streamdb.port = "8081"; }
