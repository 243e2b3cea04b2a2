-- Read where 'exrc' is set (:help exrc). :make builds and runs the project in the machine, and the
-- compiler's messages go to the quickfix list. clangd reads compile_flags.txt.
vim.o.makeprg = 'archibald run'
vim.api.nvim_create_autocmd('FileType', {
  pattern = 'c',
  callback = function()
    vim.bo.expandtab = false
    vim.bo.shiftwidth = 8
  end,
})
