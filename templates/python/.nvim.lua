-- Read where 'exrc' is set (:help exrc). :make runs the project in the machine, and what Python says of an
-- error goes to the quickfix list.
vim.o.makeprg = 'archibald run'
vim.o.errorformat = [[%C %.%#,%A  File "%f"\, line %l%.%#,%Z%[%^ ]%\@=%m]]
