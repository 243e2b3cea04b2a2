# expect: a node of a cluster needs network.mode = "bridge"
{ archibald.machine.cluster.controller = "head:6817"; }
