# Starts PostgreSQL in a pod; its settings are the arguments. A database that is not there yet is made and seeded first, by
# a server that nobody can reach: when the port opens, everything is there. Works on the official Debian-based images and on
# Debian's own packages. A container that starts again in the same pod finds its data.
set -eu
own=$(command -v initdb || true)
for programs in "${own%/*}" /usr/lib/postgresql/*/bin; do
  [ -x "$programs/initdb" ] && break
done
[ -x "$programs/initdb" ] || { echo "no initdb in PATH or /usr/lib/postgresql" >&2; exit 69; }
as_server() { setpriv --reuid=postgres --regid=postgres --init-groups "$programs/$@"; }
export LC_ALL=C
cd "$DATA_DIRECTORY"
if [ ! -d data ]; then
  rm -rf making
  mkdir -m 0700 making
  chown postgres:postgres making
  as_server initdb $INITDB_ARGUMENTS -D making > /dev/null
  echo "$POSTGRES_LETS_IN" >> making/pg_hba.conf
  private="-c listen_addresses= -c fsync=off -c dynamic_shared_memory_type=sysv -k /tmp"
  as_server pg_ctl -D making -s -w -o "$private" start
  as_server psql -X -q -v ON_ERROR_STOP=1 -h /tmp -U postgres -d postgres -f "$SEED_FILE"
  as_server pg_ctl -D making -s -w -m fast stop
  mv making data
fi
# Left by a server that was killed; its number may be this one's.
rm -f data/postmaster.pid
exec setpriv --reuid=postgres --regid=postgres --init-groups "$programs/postgres" -D data "$@"
