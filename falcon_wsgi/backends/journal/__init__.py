"""The request journal on local disk, in parts. `backends.journal_files` is its public face.

frames     one record: header with a checksum, payload; finding the next one behind damage
segments   names of segment files, positions in them, the checkpoint
ownership  the lock that says whose a folder is
folder     the folder of one worker's life: read from its checkpoint on, removed when shipped
writer     appending to the open segment, rotation, cutting torn records off
commit     group commit: one fdatasync for all greenlets that wait
memory     where records wait while the disk refuses them
backlog    all of that for the one who ships it, in batches
adoption   finding the folders of dead workers
retention  the bound on unshipped rows over all folders
rejected   where rows go that the database refuses
observer   what the journal tells about itself
"""
