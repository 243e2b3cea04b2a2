;; M-x compile builds and runs the project in the machine.
((nil . ((compile-command . "archibald run")))
 (c-mode . ((indent-tabs-mode . t) (tab-width . 8) (c-basic-offset . 8))))
