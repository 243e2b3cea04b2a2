;; M-x compile builds and runs the project in the machine.
((nil . ((compile-command . "archibald run"))))
