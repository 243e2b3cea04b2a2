;; M-x compile runs the patch in the machine. For live work M-x sclang-start (scel) starts the machine's
;; sclang, and C-c C-c sends it what is under the cursor.
((nil . ((compile-command . "archibald run")))
 (sclang-mode . ((eval . (setq-local sclang-program
                                     (expand-file-name
                                      "in-machine"
                                      (locate-dominating-file default-directory "in-machine")))))))
