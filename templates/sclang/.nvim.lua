-- Read where 'exrc' is set (:help exrc). :make runs the patch in the machine. For live work :SCNvimStart
-- (scnvim) starts the machine's sclang, and what is under the cursor goes there.
vim.o.makeprg = 'archibald run'
vim.filetype.add({ extension = { scd = 'supercollider', sc = 'supercollider' } })
local found, scnvim = pcall(require, 'scnvim')
if found then
  scnvim.setup({ sclang = { cmd = vim.fn.getcwd() .. '/in-machine' } })
end
