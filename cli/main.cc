// The one executable: picks a subcommand, binds its settings and runs it.
#include <malloc.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cstdio>
#include <memory>
#include <thread>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/synchronization/mutex.h"
#include "cli/ask_command.h"
#include "cli/bench_command.h"
#include "cli/command.h"
#include "cli/doctor_command.h"
#include "cli/health_command.h"
#include "cli/keys_command.h"
#include "cli/rank_command.h"
#include "cli/router_command.h"
#include "cli/sim_command.h"
#include "cli/sweep_command.h"
#include "cli/top_command.h"
#include "cli/up_command.h"
#include "cli/version.h"
#include "cli/worker_command.h"
#include "common/file_limit.h"

int main(int argc, char** argv) {
  baton::RaiseFileLimit();
  // No more arenas than threads that run at once. glibc makes eight for each CPU, one after the
  // other as gRPC's threads come and go, and each keeps what was ever in use in it.
  mallopt(M_ARENA_MAX, static_cast<int>(std::max(2U, std::thread::hardware_concurrency())));
  // Large buffers go back to the system when they are freed. By default glibc raises the limit with
  // each one, up to 32 MiB: they come to lie among what lives long, and the heap never shrinks.
  mallopt(M_MMAP_THRESHOLD, 128 << 10);
  // Distributions build Abseil with its search for lock cycles, which every Mutex of ours and of
  // gRPC then pays for. The tests keep it.
  absl::SetMutexDeadlockDetectionMode(absl::OnDeadlockCycle::kIgnore);
  CLI::App app(
      "Baton serves large language models with prefill and decode on separate workers.\n"
      "Start with `baton up --model models/demo`, then `baton ask \"Once upon a time\"`.",
      "baton");
  app.set_version_flag("--version", absl::StrCat("baton ", baton::kVersion));
  app.require_subcommand(1);
  app.footer(
      "`baton COMMAND --help` lists a command's settings; each is also a BATON_* environment\n"
      "variable and a key of the YAML file given with --config.");

  std::vector<std::unique_ptr<baton::Command>> commands;
  commands.push_back(baton::MakeUpCommand());
  commands.push_back(baton::MakeRouterCommand());
  commands.push_back(baton::MakeWorkerCommand());
  commands.push_back(baton::MakeRankCommand());
  commands.push_back(baton::MakeAskCommand());
  commands.push_back(baton::MakeTopCommand());
  commands.push_back(baton::MakeDoctorCommand());
  commands.push_back(baton::MakeHealthCommand());
  std::vector<std::unique_ptr<baton::BoundCommand>> bound;
  bound.reserve(commands.size());
  for (const auto& command : commands) {
    bound.push_back(std::make_unique<baton::BoundCommand>(app, *command));
  }
  CLI::App* bench = app.add_subcommand(
      "bench", "Measure goodput: of a running server, of arms against each other");
  bench->require_subcommand(1);
  for (auto make : {baton::MakeBenchServeCommand, baton::MakeBenchSweepCommand}) {
    commands.push_back(make());
    bound.push_back(std::make_unique<baton::BoundCommand>(*bench, *commands.back()));
  }
  CLI::App* sim = app.add_subcommand(
      "sim", "The cores of a whole cluster on a virtual clock: faults explored and replayed");
  sim->require_subcommand(1);
  for (auto make : {baton::MakeSimExploreCommand, baton::MakeSimReplayCommand}) {
    commands.push_back(make());
    bound.push_back(std::make_unique<baton::BoundCommand>(*sim, *commands.back()));
  }
  CLI::App* keys = app.add_subcommand("keys", "API keys of a router");
  keys->require_subcommand(1);
  commands.push_back(baton::MakeKeysNewCommand());
  bound.push_back(std::make_unique<baton::BoundCommand>(*keys, *commands.back()));
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    return baton::ReportParseError(app, error);
  }
  for (const auto& command : bound) {
    if (command->chosen()) return command->Run();
  }
  return 2;
}
