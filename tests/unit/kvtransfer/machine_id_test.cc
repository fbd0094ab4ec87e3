// Who may share memory.
#include "kvtransfer/transport/machine_id.h"

#include <gtest/gtest.h>
#include <sched.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <string>

namespace baton {
namespace {

// LocalMachineId of a child that has left these namespaces; empty if it may not.
std::string IdWithout(int namespaces) {
  int pipe_ends[2];
  EXPECT_EQ(pipe(pipe_ends), 0);
  const pid_t child = fork();
  if (child == 0) {
    if (unshare(namespaces) == 0) {
      const std::string id = LocalMachineId();
      if (write(pipe_ends[1], id.data(), id.size()) < 0) _exit(1);
    }
    _exit(0);
  }
  close(pipe_ends[1]);
  std::string id(1024, '\0');
  const ssize_t bytes = read(pipe_ends[0], id.data(), id.size());
  close(pipe_ends[0]);
  id.resize(static_cast<size_t>(std::max<ssize_t>(0, bytes)));
  EXPECT_EQ(waitpid(child, nullptr, 0), child);
  return id;
}

TEST(MachineId, IsTheSameForProcessesThatShareAll) {
  const std::string id = LocalMachineId();
  ASSERT_FALSE(id.empty());
  EXPECT_EQ(IdWithout(0), id);
}

// Handoffs between workers of two network namespaces never ended over shared memory: the one is
// not woken by the other.
TEST(MachineId, DiffersWhereSharedMemoryDoesNotWork) {
  if (geteuid() != 0) GTEST_SKIP() << "only root may leave a namespace";
  for (const int space : {CLONE_NEWNET, CLONE_NEWIPC}) {
    const std::string other = IdWithout(space);
    if (other.empty()) GTEST_SKIP() << "namespaces are not allowed here";
    EXPECT_NE(other, LocalMachineId()) << space;
  }
}

}  // namespace
}  // namespace baton
