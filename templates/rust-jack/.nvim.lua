-- Read where 'exrc' is set (:help exrc). :make builds and runs the project in the machine, and the
-- compiler's messages go to the quickfix list.
vim.cmd.compiler('cargo')
vim.o.makeprg = 'archibald run'
