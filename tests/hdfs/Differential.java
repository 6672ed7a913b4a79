import java.io.BufferedWriter;
import java.io.ByteArrayOutputStream;
import java.io.File;
import java.io.IOException;
import java.io.PrintStream;
import java.net.URI;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.security.PrivilegedExceptionAction;
import java.time.LocalDate;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import org.apache.hadoop.conf.Configuration;
import org.apache.hadoop.fs.FsShell;
import org.apache.hadoop.ipc.RemoteException;
import org.apache.hadoop.security.UserGroupInformation;
import org.apache.hadoop.util.ToolRunner;

/**
 * Takes the steps of a file against one system and writes down what came of each: Differential URI STEPS DIRECTORY RESULTS.
 *
 * <p>A step is a line: {@code sh ARGUMENTS} runs FsShell, {@code fs CALL ARGUMENTS} a call of {@link Calls}, {@code local NAME TEXT} writes
 * a local file; {@code as USER} in front makes it another user's. Words are separated by spaces and may be in single or double quotes;
 * {@code \n} is a new line, {@code LOCAL} the local directory, and {@code {x*250}} 250 times x. Other lines are left out. What differs from
 * run to run (addresses, times of today, names of clients and blocks) is replaced by its name.
 */
public final class Differential {
  private final String uri;
  private final File local;
  private final Configuration conf = new Configuration();
  private final Map<String, UserGroupInformation> users = new HashMap<>();
  private final Map<String, Calls> calls = new HashMap<>();

  private Differential(String uri, File local) {
    this.uri = uri;
    this.local = local;
    conf.set("fs.defaultFS", uri);
    conf.setInt("dfs.replication", 1);
    conf.setInt("fs.trash.interval", 60);
    UserGroupInformation.setConfiguration(conf);
  }

  public static void main(String[] arguments) throws Exception {
    Differential differential = new Differential(arguments[0], new File(arguments[2]));
    try (BufferedWriter results = Files.newBufferedWriter(new File(arguments[3]).toPath())) {
      for (String line : Files.readAllLines(new File(arguments[1]).toPath())) {
        if (line.startsWith("sh ") || line.startsWith("fs ") || line.startsWith("as ") || line.startsWith("local ")) {
          results.write("> " + line + "\n" + differential.take(words(line)).stripTrailing() + "\n");
        }
      }
    }
    System.out.println("DONE");
    System.exit(0);
  }

  /** The words of a line. */
  private static List<String> words(String line) {
    List<String> words = new ArrayList<>();
    StringBuilder word = null;
    char quote = 0;
    for (char c : line.replace("\\n", "\n").toCharArray()) {
      if (quote == 0 && c == ' ') {
        if (word != null) {
          words.add(word.toString());
        }
        word = null;
        continue;
      }
      word = word == null ? new StringBuilder() : word;
      if (c == quote) {
        quote = 0;
      } else if (quote == 0 && (c == '\'' || c == '"')) {
        quote = c;
      } else {
        word.append(c);
      }
    }
    if (word != null) {
      words.add(word.toString());
    }
    words.replaceAll(Differential::repeated);
    return words;
  }

  private static String repeated(String word) {
    int open = word.indexOf('{');
    int star = word.indexOf('*', open + 1);
    int close = word.indexOf('}', star + 1);
    if (open < 0 || star < 0 || close < 0) {
      return word;
    }
    String again = word.substring(open + 1, star).repeat(Integer.parseInt(word.substring(star + 1, close)));
    return word.substring(0, open) + again + repeated(word.substring(close + 1));
  }

  private String take(List<String> words) throws Exception {
    words.replaceAll(word -> word.replace("LOCAL", local.getPath()));
    UserGroupInformation user = UserGroupInformation.getCurrentUser();
    String name = "";
    if (words.get(0).equals("as")) {
      name = words.get(1);
      user = users.computeIfAbsent(name, UserGroupInformation::createRemoteUser);
      words = words.subList(2, words.size());
    }
    String kind = words.get(0);
    List<String> rest = words.subList(1, words.size());
    String who = name;
    return plain(user.doAs((PrivilegedExceptionAction<String>) () -> switch (kind) {
      case "sh" -> shell(rest);
      case "fs" -> call(who, rest);
      case "local" -> {
        Files.writeString(new File(local, rest.get(0)).toPath(), rest.get(1));
        yield "written";
      }
      default -> throw new IllegalArgumentException(kind);
    }));
  }

  private String shell(List<String> arguments) throws Exception {
    PrintStream out = System.out;
    PrintStream err = System.err;
    ByteArrayOutputStream said = new ByteArrayOutputStream();
    ByteArrayOutputStream complained = new ByteArrayOutputStream();
    System.setOut(new PrintStream(said, true));
    System.setErr(new PrintStream(complained, true));
    int code;
    try {
      code = ToolRunner.run(new FsShell(new Configuration(conf)), arguments.toArray(String[]::new));
    } finally {
      System.setOut(out);
      System.setErr(err);
    }
    String result = "exit " + code + "\n" + said.toString(StandardCharsets.UTF_8);
    return result + (result.endsWith("\n") ? "" : "\n") + complained.toString(StandardCharsets.UTF_8);
  }

  private String call(String user, List<String> words) throws IOException {
    Calls mine = calls.get(user);
    if (mine == null) {
      mine = new Calls(URI.create(uri), conf);
      calls.put(user, mine);
    }
    try {
      return String.valueOf(mine.call(words.get(0), words.subList(1, words.size()).toArray(String[]::new)));
    } catch (Exception thrown) {
      Throwable found = thrown instanceof RemoteException remote ? remote.unwrapRemoteException() : thrown;
      // A remote exception has the stack of the server behind its first line.
      String message = String.valueOf(found.getMessage()).lines().findFirst().orElse("");
      String remote = found instanceof RemoteException unknown ? unknown.getClassName() : found.getClass().getName();
      return "threw " + remote + ": " + message;
    }
  }

  /** Without what is another one in each run. */
  private String plain(String text) {
    String address = uri.substring("hdfs://".length());
    return text.replace(uri, "hdfs://NAMENODE")
        .replace(address, "NAMENODE")
        .replace(local.getPath(), "LOCAL")
        .replaceAll(LocalDate.now().getYear() + "-\\d\\d-\\d\\d \\d\\d:\\d\\d(:\\d\\d)?", "TODAY")
        .replaceAll("/\\.Trash/\\d{12}", "/.Trash/CHECKPOINT")
        .replaceAll("\\b1[78]\\d{11}\\b", "MILLIS")
        .replaceAll("DFSClient_NONMAPREDUCE_-?\\d+_\\d+", "CLIENT")
        .replaceAll("BP-[-\\d.]+", "POOL")
        .replaceAll("blk_\\d+(_\\d+)?", "BLOCK")
        .replaceAll("\\(inode \\d+\\)", "(inode ID)")
        .replaceAll("127.0.0.1:\\d+", "DATANODE");
  }
}
