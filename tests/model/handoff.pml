/* The KV handoff protocol of kvtransfer/core, small enough to visit every state of it: one decode
 * worker with a pool that one handoff fills, two prefill workers, two attempts at one request.
 * Attempt a is sent by prefill worker a, over connection a, under ticket a.
 *
 * Every action below may be the next one whenever its guard holds. Faults (a client that leaves, a
 * worker that dies, a connection that breaks without a word) strike at any moment, until the world
 * is `calm`; leases and timeouts end at any moment, for time is not modelled.
 *
 * Safety, by assertions:
 *   H1  a sealed handoff owns its blocks
 *   H2  a payload lands only in blocks of its own handoff that are landing or in quarantine
 *   H3  a message under a ticket that is not open places nothing
 *   H4  the seal comes when every byte has landed
 *   H6  the request ends once
 *   H7  a source block is read only while it is pinned
 * Eventual release (H5): no action can be repeated for ever, so every run ends; and where nothing
 * is left to do, nothing is held on any side.
 *
 * MUTANT breaks one rule; tests/model/check.sh shows that each of them is noticed.
 */
#ifndef MUTANT
#define MUTANT 0
#endif
#define FREES_AT_THE_LEASES_END (MUTANT == 1)
#define SEALS_BY_THE_TAIL_ALONE (MUTANT == 2)
#define UNPINS_BEFORE_SENDS_END (MUTANT == 3)
#define TAKES_ANY_TICKET        (MUTANT == 4)
#define WAITS_FOR_THE_DEAD      (MUTANT == 5)
#define FIRST_RECEIVE_FREES     (MUTANT == 6)
#define MUTANTS 6

#define NOBODY 9

mtype = { FREE, LANDING, QUARANTINE, IN_USE };            /* a block of the decode worker */
mtype = { UNUSED, OPEN, DRAINING, SEALED, OVER };         /* a handoff at the decode worker */
mtype = { IDLE, SENDING, ENDED, GONE };                   /* at the prefill worker; a payload */
mtype = { ANNOUNCED, POSTED };                            /* a payload */
mtype = { NONE, UP, SEVERED, DESTROYED };                 /* a connection */

mtype block[2] = FREE;
byte owner[2] = NOBODY;         /* the attempt */
mtype handoff[2] = UNUSED;
mtype wire[2] = NONE;
mtype payload[4] = IDLE;        /* of block b in attempt a: [2a + b] */
bool landed[4];
bool tail[2];
mtype source[2] = IDLE;
bool pinned[2];
bool aborted[2];                /* by the router */
byte attempt;                   /* the current one; 2: the request is over */
byte ends;
bool decode_dead;
bool calm;

#define P(a, b)          payload[2 * (a) + (b)]
#define LANDED(a)        (landed[2 * (a)] && landed[2 * (a) + 1])
#define IS_POSTED(a)     (P(a, 0) == POSTED || P(a, 1) == POSTED)
#define IS_ANNOUNCED(a)  (P(a, 0) == ANNOUNCED || P(a, 1) == ANNOUNCED)

inline end_request() {
  ends++;
  assert(ends == 1);                                               /* H6 */
  attempt = 2
}

inline release(a) {
  if :: owner[0] == a -> owner[0] = NOBODY; block[0] = FREE :: else fi;
  if :: owner[1] == a -> owner[1] = NOBODY; block[1] = FREE :: else fi;
  handoff[a] = OVER
}

/* Without success: what may still be written to is kept back. */
inline fail(a) {
  handoff[a] = DRAINING;
  block[0] = QUARANTINE;
  block[1] = QUARANTINE;
  if :: !IS_POSTED(a) -> release(a) :: else fi
}

/* With a connection goes every send and receive that was posted on it. */
inline destroy(a) {
  wire[a] = DESTROYED;
  if :: P(a, 0) == ANNOUNCED || P(a, 0) == POSTED -> P(a, 0) = ENDED :: else fi;
  if :: P(a, 1) == ANNOUNCED || P(a, 1) == POSTED -> P(a, 1) = ENDED :: else fi;
  if
  :: handoff[a] == OPEN -> fail(a)
  :: handoff[a] == DRAINING -> release(a)
  :: else
  fi
}

inline land(a, b) {
  assert(pinned[a]);                                               /* H7 */
  assert(owner[b] == a);                                           /* H2, H3 */
  assert(block[b] == LANDING || block[b] == QUARANTINE);           /* H2 */
  landed[2 * a + b] = true;
  P(a, b) = ENDED;
  if
  :: FIRST_RECEIVE_FREES && handoff[a] == DRAINING -> release(a)
  :: else
  fi
}

inline arrive(a, b) {
  if
  :: handoff[a] == OPEN || (TAKES_ANY_TICKET && owner[b] != NOBODY) -> P(a, b) = POSTED
  :: else -> P(a, b) = ENDED                                       /* H3 */
  fi
}

#define ACTIONS_OF(a)                                                                             \
  /* the router: reserve, prefill, and on with the next attempt */                                \
  :: atomic { attempt == a && handoff[a] == UNUSED && !decode_dead &&                             \
              block[0] == FREE && block[1] == FREE ->                                             \
              handoff[a] = OPEN; block[0] = LANDING; block[1] = LANDING;                          \
              owner[0] = a; owner[1] = a }                                                        \
  :: atomic { attempt == a && handoff[a] == OPEN && source[a] == IDLE && !aborted[a] ->           \
              source[a] = SENDING; pinned[a] = true; wire[a] = UP }                               \
  :: atomic { attempt == a && handoff[a] == OVER -> aborted[a] = true;                            \
              if :: a == 0 && !decode_dead -> attempt = 1 :: else -> end_request() fi }           \
  :: atomic { attempt == a && (handoff[a] == OPEN || handoff[a] == DRAINING) &&                   \
              (aborted[a] || source[a] == GONE) -> aborted[a] = true;                             \
              if :: a == 0 -> attempt = 1 :: else -> end_request() fi }                           \
  :: atomic { attempt == a && decode_dead && handoff[a] == UNUSED -> end_request() }              \
  /* the prefill worker */                                                                        \
  :: atomic { source[a] == SENDING && wire[a] == UP && P(a, 0) == IDLE -> P(a, 0) = ANNOUNCED }   \
  :: atomic { source[a] == SENDING && wire[a] == UP && P(a, 0) != IDLE && P(a, 1) == IDLE ->      \
              P(a, 1) = ANNOUNCED }                                                               \
  :: atomic { source[a] == SENDING && wire[a] == UP && P(a, 1) != IDLE && !tail[a] ->             \
              tail[a] = true }                                                                    \
  :: atomic { source[a] == SENDING &&       /* it hears, or its own lease ends */                 \
              (aborted[a] || handoff[a] != OPEN || wire[a] != UP || !calm) -> source[a] = ENDED;  \
              if :: UNPINS_BEFORE_SENDS_END -> pinned[a] = false :: else fi }                     \
  :: atomic { source[a] == ENDED && (wire[a] != UP || !(IS_POSTED(a) || IS_ANNOUNCED(a))) ->      \
              pinned[a] = false; source[a] = GONE }                                               \
  /* the network */                                                                               \
  :: atomic { P(a, 0) == ANNOUNCED && wire[a] == UP -> arrive(a, 0) }                             \
  :: atomic { P(a, 1) == ANNOUNCED && wire[a] == UP -> arrive(a, 1) }                             \
  :: atomic { P(a, 0) == POSTED && wire[a] == UP -> land(a, 0) }                                  \
  :: atomic { P(a, 1) == POSTED && wire[a] == UP -> land(a, 1) }                                  \
  /* the decode worker */                                                                         \
  :: atomic { handoff[a] == OPEN && tail[a] && wire[a] == UP &&                                   \
              (LANDED(a) || SEALS_BY_THE_TAIL_ALONE) ->                                           \
              assert(LANDED(a));                                   /* H4 */                       \
              assert(owner[0] == a && owner[1] == a);              /* H1 */                       \
              handoff[a] = SEALED; block[0] = IN_USE; block[1] = IN_USE }                         \
  :: atomic { handoff[a] == OPEN ->         /* the lease's end, or the router's abort */          \
              fail(a);                                                                            \
              if :: FREES_AT_THE_LEASES_END && handoff[a] == DRAINING -> release(a) :: else fi }  \
  :: atomic { handoff[a] == DRAINING && !IS_POSTED(a) -> release(a) }                             \
  :: atomic { handoff[a] == DRAINING && wire[a] == UP -> destroy(a) } /* receives that stay */    \
  :: atomic { wire[a] == SEVERED && !WAITS_FOR_THE_DEAD -> destroy(a) }                           \
  :: atomic { handoff[a] == SEALED -> release(a); if :: attempt == a -> end_request()             \
                                                  :: else fi }                                    \
  /* faults */                                                                                    \
  :: atomic { !calm && !aborted[a] && handoff[a] != UNUSED -> aborted[a] = true }                 \
  :: atomic { !calm && wire[a] == UP -> wire[a] = SEVERED }                                       \
  :: atomic { !calm && (source[a] == SENDING || source[a] == ENDED) ->                            \
              source[a] = GONE; pinned[a] = false;                                                \
              if :: wire[a] == UP -> wire[a] = SEVERED :: else fi }                               \
  :: atomic { !calm && source[a] == IDLE && handoff[a] == OPEN -> source[a] = GONE }

init {
  do
  ACTIONS_OF(0)
  ACTIONS_OF(1)
  :: atomic { !calm && !decode_dead ->
       decode_dead = true;                  /* with all of its memory */
       if :: wire[0] != NONE -> wire[0] = DESTROYED :: else fi;
       if :: wire[1] != NONE -> wire[1] = DESTROYED :: else fi;
       payload[0] = ENDED; payload[1] = ENDED; payload[2] = ENDED; payload[3] = ENDED;
       if :: handoff[0] != UNUSED -> handoff[0] = OVER :: else fi;
       if :: handoff[1] != UNUSED -> handoff[1] = OVER :: else fi;
       block[0] = FREE; block[1] = FREE; owner[0] = NOBODY; owner[1] = NOBODY }
  :: atomic { !calm -> calm = true }
  :: else -> break
  od;
  assert(ends == 1);                                               /* H6 */
  assert(block[0] == FREE && block[1] == FREE);                    /* H5 */
  assert(!pinned[0] && !pinned[1]);
  assert(handoff[0] != OPEN && handoff[0] != DRAINING);
  assert(handoff[1] != OPEN && handoff[1] != DRAINING)
}
