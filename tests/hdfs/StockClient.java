import java.io.ByteArrayOutputStream;
import java.io.File;
import java.io.FileNotFoundException;
import java.io.IOException;
import java.io.PrintStream;
import java.net.URI;
import java.nio.ByteBuffer;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.security.PrivilegedExceptionAction;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.EnumSet;
import java.util.List;
import java.util.Random;
import java.util.Scanner;
import java.util.TreeSet;
import org.apache.hadoop.conf.Configuration;
import org.apache.hadoop.fs.CreateFlag;
import org.apache.hadoop.fs.FSDataInputStream;
import org.apache.hadoop.fs.FSDataOutputStream;
import org.apache.hadoop.fs.FileAlreadyExistsException;
import org.apache.hadoop.fs.FileContext;
import org.apache.hadoop.fs.FileRange;
import org.apache.hadoop.fs.FileStatus;
import org.apache.hadoop.fs.FileSystem;
import org.apache.hadoop.fs.FsShell;
import org.apache.hadoop.fs.LocatedFileStatus;
import org.apache.hadoop.fs.Options.Rename;
import org.apache.hadoop.fs.ParentNotDirectoryException;
import org.apache.hadoop.fs.Path;
import org.apache.hadoop.fs.PathIsNotEmptyDirectoryException;
import org.apache.hadoop.fs.RemoteIterator;
import org.apache.hadoop.fs.XAttrSetFlag;
import org.apache.hadoop.fs.permission.AclEntry;
import org.apache.hadoop.fs.permission.FsAction;
import org.apache.hadoop.fs.permission.FsPermission;
import org.apache.hadoop.hdfs.DistributedFileSystem;
import org.apache.hadoop.hdfs.protocol.AlreadyBeingCreatedException;
import org.apache.hadoop.hdfs.protocol.HdfsConstants.DatanodeReportType;
import org.apache.hadoop.ipc.CallerContext;
import org.apache.hadoop.ipc.RemoteException;
import org.apache.hadoop.security.AccessControlException;
import org.apache.hadoop.security.UserGroupInformation;
import org.apache.hadoop.util.ToolRunner;

/** Hadoop's own client against RingFS: StockClient URI SCENARIO DIRECTORY. Each scenario ends with the first thing that is not so. */
public final class StockClient {
  private final String uri;
  private final File local;
  private final Configuration conf = new Configuration();
  private final DistributedFileSystem fs;

  private interface Body {
    void run() throws Exception;
  }

  private StockClient(String uri, File local) throws Exception {
    this.uri = uri;
    this.local = local;
    conf.set("fs.defaultFS", uri);
    // Without it a client of one namenode gives up at the first call that finds no namenode.
    conf.setBoolean("dfs.client.retry.policy.enabled", true);
    fs = (DistributedFileSystem) FileSystem.newInstance(URI.create(uri), conf);
  }

  public static void main(String[] arguments) throws Exception {
    StockClient client = new StockClient(arguments[0], new File(arguments[2]));
    switch (arguments[1]) {
      case "shell" -> client.shell();
      case "files" -> client.files();
      case "names" -> client.names();
      case "attributes" -> client.attributes();
      case "written" -> client.written();
      case "faults" -> client.faults();
      case "append" -> client.append(arguments[3], arguments[4]);
      case "cat" -> client.cat(arguments[3]);
      case "put" -> client.put(arguments[3], arguments[4].repeat(Integer.parseInt(arguments[5])));
      default -> throw new IllegalArgumentException(arguments[1]);
    }
    client.fs.close();
    System.out.println("DONE");
    System.exit(0);
  }

  private static void check(boolean isSo, String what) {
    if (!isSo) {
      throw new AssertionError(what);
    }
  }

  private static void same(Object expected, Object found) {
    check(expected.equals(found), "expected <" + expected + ">, found <" + found + ">");
  }

  /** Runs something that must fail with a class of exceptions and, if it is not null, with a text in its message. */
  private static void fails(Class<? extends Throwable> kind, String text, Body body) throws Exception {
    try {
      body.run();
    } catch (Throwable thrown) {
      Throwable found = thrown instanceof RemoteException remote ? remote.unwrapRemoteException() : thrown;
      check(kind.isInstance(found), "expected " + kind.getName() + ", found " + found);
      check(text == null || String.valueOf(found.getMessage()).contains(text), "expected '" + text + "' in " + found);
      return;
    }
    throw new AssertionError("expected " + kind.getName());
  }

  /** Runs a command of FsShell; what it prints must contain the text, and its exit code be as expected. */
  private String run(int code, String text, String... arguments) throws Exception {
    PrintStream out = System.out;
    PrintStream err = System.err;
    ByteArrayOutputStream bytes = new ByteArrayOutputStream();
    System.setOut(new PrintStream(bytes, true));
    System.setErr(System.out);
    int found;
    try {
      found = ToolRunner.run(new FsShell(new Configuration(conf)), arguments);
    } finally {
      System.setOut(out);
      System.setErr(err);
    }
    String said = bytes.toString(StandardCharsets.UTF_8);
    check(found == code, Arrays.toString(arguments) + ": exit code " + found + ", expected " + code + ": " + said);
    check(said.contains(text), Arrays.toString(arguments) + ": expected '" + text + "' in: " + said);
    return said;
  }

  private String localFile(String name, String content) throws IOException {
    File file = new File(local, name);
    Files.writeString(file.toPath(), content);
    return file.getPath();
  }

  private void shell() throws Exception {
    String one = localFile("one", "first line\nsecond line\n");
    String two = localFile("two", "more\n");
    run(0, "", "-mkdir", "-p", "/s/d");
    run(1, "File exists", "-mkdir", "/s/d");
    run(1, "No such file or directory", "-mkdir", "/s/none/d");
    run(0, "", "-put", one, "/s/f");
    run(1, "File exists", "-put", one, "/s/f");
    run(0, "", "-put", "-f", one, "/s/f");
    run(0, "", "-copyFromLocal", "-d", two, "/s/g");
    run(0, "first line\nsecond line\n", "-cat", "/s/f");
    run(1, "No such file or directory", "-cat", "/s/none");
    run(0, "second line", "-text", "/s/f");
    run(0, "first line", "-head", "/s/f");
    run(0, "second line", "-tail", "/s/f");
    run(0, "", "-get", "/s/f", new File(local, "back").getPath());
    same("first line\nsecond line\n", Files.readString(new File(local, "back").toPath()));
    run(0, "", "-appendToFile", two, "/s/f");
    run(0, "second line\nmore\n", "-cat", "/s/f");
    run(0, "Found 3 items", "-ls", "/s");
    run(0, "/s/f", "-ls", "-R", "/");
    run(0, "/s/g", "-ls", "/s/[fg]");
    run(1, "No such file or directory", "-ls", "/none");
    run(0, "regular file 28 f", "-stat", "%F %b %n", "/s/f");
    run(0, "", "-test", "-e", "/s/f");
    run(0, "", "-test", "-f", "/s/f");
    run(0, "", "-test", "-d", "/s/d");
    run(0, "", "-test", "-s", "/s/f");
    run(0, "", "-test", "-r", "/s/f");
    run(1, "", "-test", "-z", "/s/f");
    run(1, "", "-test", "-e", "/s/none");
    run(0, "", "-chmod", "640", "/s/f");
    run(0, "-rw-r-----", "-ls", "/s/f");
    run(0, "", "-chmod", "-R", "u+x,o=r", "/s");
    run(0, "", "-chown", "bob:staff", "/s/f");
    run(0, "", "-chgrp", "ops", "/s/f");
    run(0, "bob ops", "-stat", "%u %g", "/s/f");
    run(0, "Replication 2 set: /s/f", "-setrep", "-w", "2", "/s/f");
    run(0, "", "-touchz", "/s/empty");
    run(0, "", "-test", "-z", "/s/empty");
    run(0, "", "-touch", "-t", "20250102:030405", "/s/empty");
    run(0, "2025-01-02", "-stat", "%y", "/s/empty");
    run(0, "Truncated /s/f to length: 5", "-truncate", "-w", "5", "/s/f");
    run(0, "first", "-cat", "/s/f");
    run(0, "", "-cp", "/s/g", "/s/h");
    run(0, "", "-cp", "-p", "-f", "/s/g", "/s/h");
    run(0, "", "-concat", "/s/f", "/s/g", "/s/h");
    run(0, "firstmore\nmore\n", "-cat", "/s/f");
    run(0, "", "-mv", "/s/f", "/s/d");
    run(0, "", "-test", "-f", "/s/d/f");
    run(0, "", "-getmerge", "/s/d", new File(local, "merged").getPath());
    run(0, "MD5-of-512CRC32C", "-checksum", "/s/d/f");
    run(0, "", "-setfattr", "-n", "user.origin", "-v", "crawl", "/s/d/f");
    run(0, "user.origin=\"crawl\"", "-getfattr", "-d", "/s/d/f");
    run(0, "", "-setfattr", "-x", "user.origin", "/s/d/f");
    run(0, "", "-setfacl", "-m", "user:bob:r-x,default:user:eve:rwx", "/s/d");
    run(0, "default:user:eve:rwx", "-getfacl", "/s/d");
    run(0, "+", "-ls", "/s");
    run(0, "", "-setfacl", "-b", "/s/d");
    run(0, "/s/d/f", "-find", "/s", "-name", "f*");
    run(0, "", "-count", "-q", "-h", "/s");
    run(0, "/s", "-du", "-s", "/s");
    run(0, uri, "-df", "/");
    run(1, "Directory is not empty", "-rmdir", "/s/d");
    run(1, "Is a directory", "-rm", "/s/d");
    run(0, "Deleted /s/empty", "-rm", "-skipTrash", "/s/empty");
    run(1, "not a snapshottable directory", "-createSnapshot", "/s");
    run(0, "", "-expunge");
    run(0, "Deleted /s", "-rm", "-r", "-skipTrash", "/s");
    run(0, "", "-usage", "ls");
  }

  private static byte[] random(int seed, int length) {
    byte[] bytes = new byte[length];
    new Random(seed).nextBytes(bytes);
    return bytes;
  }

  private void write(String path, byte[] bytes) throws IOException {
    try (FSDataOutputStream out = fs.create(new Path(path), true)) {
      out.write(bytes);
    }
  }

  private byte[] read(String path) throws IOException {
    try (FSDataInputStream in = fs.open(new Path(path))) {
      return in.readAllBytes();
    }
  }

  private void files() throws Exception {
    byte[] data = random(1, 5_000_000);
    write("/f/a", data);
    check(Arrays.equals(data, read("/f/a")), "what was written is read");
    try (FSDataInputStream in = fs.open(new Path("/f/a"))) {
      byte[] some = new byte[1000];
      in.readFully(3_333_333, some);
      check(Arrays.equals(Arrays.copyOfRange(data, 3_333_333, 3_334_333), some), "a positioned read");
      List<FileRange> ranges = List.of(FileRange.createFileRange(10, 100), FileRange.createFileRange(4_000_000, 5000));
      in.readVectored(ranges, ByteBuffer::allocate);
      for (FileRange range : ranges) {
        byte[] found = new byte[range.getLength()];
        range.getData().get().get(found);
        int from = (int) range.getOffset();
        check(Arrays.equals(Arrays.copyOfRange(data, from, from + found.length), found), "a vectored read");
      }
      in.seek(4_999_990);
      same(10, in.read(new byte[100]));
      same(-1, in.read());
    }
    // Small blocks, many of them.
    try (FSDataOutputStream out = fs.create(new Path("/f/blocks"), true, 4096, (short) 2, 1 << 20)) {
      out.write(data);
    }
    check(Arrays.equals(data, read("/f/blocks")), "five blocks");
    same(5, fs.getFileBlockLocations(new Path("/f/blocks"), 0, data.length).length);
    // The same bytes have the same checksum, however they were written.
    try (FSDataOutputStream out = fs.create(new Path("/f/b"), true)) {
      for (int at = 0; at < data.length; at += 777) {
        out.write(data, at, Math.min(777, data.length - at));
        if (at % 10 == 0 && at < 100_000) {
          out.hflush();
        }
      }
    }
    same(fs.getFileChecksum(new Path("/f/a")), fs.getFileChecksum(new Path("/f/b")));
    conf.set("dfs.checksum.combine.mode", "COMPOSITE_CRC");
    try (FileSystem composite = FileSystem.newInstance(URI.create(uri), conf)) {
      same(composite.getFileChecksum(new Path("/f/a")), composite.getFileChecksum(new Path("/f/blocks")));
    }
    conf.unset("dfs.checksum.combine.mode");

    fails(FileAlreadyExistsException.class, "already exists", () -> fs.create(new Path("/f/a"), false));
    fails(FileAlreadyExistsException.class, "already exists as a directory", () -> fs.create(new Path("/f"), true));
    fails(FileNotFoundException.class, "doesn't exist", () ->
        fs.createNonRecursive(new Path("/none/x"), FsPermission.getFileDefault(), EnumSet.of(CreateFlag.CREATE), 4096,
            (short) 1, 1 << 20, null));
    fails(FileNotFoundException.class, "File does not exist: /none", () -> fs.open(new Path("/none")));
    fails(FileNotFoundException.class, "Path is not a file: /f", () -> fs.open(new Path("/f")));

    // Append at every kind of place, truncate, concat.
    write("/f/c", Arrays.copyOf(data, 700));
    int length = 700;
    for (int more : new int[] {1, 323, 512, 100_000}) {
      try (FSDataOutputStream out = fs.append(new Path("/f/c"))) {
        out.write(data, length, more);
      }
      length += more;
      check(Arrays.equals(Arrays.copyOf(data, length), read("/f/c")), "appended up to " + length);
    }
    try (FSDataOutputStream out = fs.append(new Path("/f/c"), EnumSet.of(CreateFlag.APPEND, CreateFlag.NEW_BLOCK), 4096, null)) {
      out.write(data, length, 1000);
    }
    length += 1000;
    check(Arrays.equals(Arrays.copyOf(data, length), read("/f/c")), "appended in a block of its own");
    for (int cut : new int[] {length - 1000, 90_000, 5}) {
      truncate("/f/c", cut);
      check(Arrays.equals(Arrays.copyOf(data, cut), read("/f/c")), "cut to " + cut);
    }
    fails(IOException.class, null, () -> fs.truncate(new Path("/f/c"), 1000));
    write("/f/d", Arrays.copyOfRange(data, 5, 5000));
    write("/f/e", Arrays.copyOfRange(data, 5000, 9000));
    fs.concat(new Path("/f/c"), new Path[] {new Path("/f/d"), new Path("/f/e")});
    check(Arrays.equals(Arrays.copyOf(data, 9000), read("/f/c")), "joined");
    check(!fs.exists(new Path("/f/d")), "the parts are gone");
  }

  private void truncate(String path, long length) throws Exception {
    if (!fs.truncate(new Path(path), length)) {
      long until = System.nanoTime() + 30_000_000_000L;
      while (!fs.isFileClosed(new Path(path))) {
        check(System.nanoTime() < until, path + " is cut in time");
        Thread.yield();
      }
    }
    same(length, fs.getFileStatus(new Path(path)).getLen());
  }

  private void names() throws Exception {
    CallerContext.setCurrent(new CallerContext.Builder("job of names").build());
    fs.mkdirs(new Path("/n/d"));
    write("/n/f", new byte[10]);
    write("/n/g", new byte[20]);
    Path f = new Path("/n/f");
    Path g = new Path("/n/g");
    check(!fs.rename(new Path("/n/none"), g), "what is missing cannot be renamed");
    check(!fs.rename(f, g), "a file that is there is not replaced");
    check(fs.rename(f, f), "a file to itself");
    check(!fs.rename(new Path("/n/d"), new Path("/n/d")), "a directory to itself");
    check(!fs.rename(new Path("/n"), new Path("/n/d/n")), "nothing goes into itself");
    check(!fs.rename(f, new Path("/none/f")), "a directory is not made by the way");
    check(fs.rename(f, new Path("/n/d")), "into a directory");
    check(fs.exists(new Path("/n/d/f")), "under its name");
    FileContext context = FileContext.getFileContext(URI.create(uri), conf);
    fails(FileAlreadyExistsException.class, null, () -> context.rename(new Path("/n/d/f"), g));
    context.rename(new Path("/n/d/f"), g, Rename.OVERWRITE);
    same(10L, fs.getFileStatus(g).getLen());
    fails(FileNotFoundException.class, null, () -> context.rename(f, new Path("/n/x")));
    fails(ParentNotDirectoryException.class, null, () -> context.rename(new Path("/n/d"), new Path("/n/g/x")));
    fails(IOException.class, null, () -> context.rename(new Path("/n"), new Path("/n/d/n"), Rename.NONE));
    fails(FileAlreadyExistsException.class, "is not a directory", () -> fs.mkdirs(g));
    fails(ParentNotDirectoryException.class, null, () -> fs.mkdirs(new Path("/n/g/x")));
    fails(PathIsNotEmptyDirectoryException.class, null, () -> fs.delete(new Path("/n"), false));
    check(!fs.delete(new Path("/n/none"), true), "nothing was deleted");
    check(!fs.delete(new Path("/"), true), "the root stays");

    Path many = new Path("/n/many");
    for (int number = 0; number < 1100; number++) {
      fs.create(new Path(many, String.format("%04d", number))).close();
    }
    same(1100, fs.listStatus(many).length);
    same(10, fs.globStatus(new Path("/n/many/109[0-9]")).length);
    int located = 0;
    for (RemoteIterator<LocatedFileStatus> all = fs.listFiles(new Path("/n"), true); all.hasNext(); all.next()) {
      located++;
    }
    same(1101, located);
    same(1101L, fs.getContentSummary(new Path("/n")).getFileCount());
    check(fs.delete(new Path("/n"), true), "deleted");
  }

  private void attributes() throws Exception {
    Path file = new Path("/x/f");
    write("/x/f", new byte[1]);
    fs.setTimes(file, 1_000_000, 2_000_000);
    FileStatus status = fs.getFileStatus(file);
    same(1_000_000L, status.getModificationTime());
    same(2_000_000L, status.getAccessTime());
    fs.setXAttr(file, "user.a", "1".getBytes(), EnumSet.of(XAttrSetFlag.CREATE));
    fails(IOException.class, "REPLACE flag must be specified", () ->
        fs.setXAttr(file, "user.a", "2".getBytes(), EnumSet.of(XAttrSetFlag.CREATE)));
    fails(IOException.class, "CREATE flag must be specified", () ->
        fs.setXAttr(file, "user.b", "2".getBytes(), EnumSet.of(XAttrSetFlag.REPLACE)));
    same("1", new String(fs.getXAttr(file, "user.a")));
    same(List.of("user.a"), fs.listXAttrs(file));
    fails(IOException.class, "At least one of the attributes", () -> fs.getXAttr(file, "user.none"));
    fs.removeXAttr(file, "user.a");
    fails(IOException.class, "No matching attributes", () -> fs.removeXAttr(file, "user.a"));
    fs.modifyAclEntries(file, AclEntry.parseAclSpec("user:bob:rw-,group:ops:r--", true));
    same(3, fs.getAclStatus(file).getEntries().size());
    check(fs.getFileStatus(file).hasAcl(), "it says so");
    fs.setPermission(file, new FsPermission((short) 0640));
    fs.removeAcl(file);
    same(0, fs.getAclStatus(file).getEntries().size());
    fs.setStoragePolicy(file, "COLD");
    same("COLD", fs.getStoragePolicy(file).getName());
    fs.unsetStoragePolicy(file);
    same("HOT", fs.getStoragePolicy(file).getName());
    same(8, fs.getAllStoragePolicies().size());
    check(fs.setReplication(file, (short) 2), "set");
    check(!fs.setReplication(new Path("/x"), (short) 2), "a directory has none");
    fails(IOException.class, null, () -> fs.setReplication(file, (short) 0));
    same(3, fs.getDataNodeStats(DatanodeReportType.LIVE).length);
    same(-1L, fs.getQuotaUsage(new Path("/x")).getQuota());

    fs.setPermission(new Path("/x"), new FsPermission((short) 0711));
    FileSystem eve = UserGroupInformation.createRemoteUser("eve").doAs(
        (PrivilegedExceptionAction<FileSystem>) () -> FileSystem.newInstance(URI.create(uri), conf));
    fails(AccessControlException.class, "user=eve, access=WRITE", () -> eve.create(new Path("/x/g")));
    fails(AccessControlException.class, "access=READ_EXECUTE", () -> eve.listStatus(new Path("/x")));
    fails(AccessControlException.class, "is not the owner", () -> eve.setPermission(file, new FsPermission((short) 0777)));
    fails(AccessControlException.class, "Superuser privilege is required", () -> eve.getStatus(new Path("/x")).getClass()
        .getName().concat(Arrays.toString(((DistributedFileSystem) eve).getDataNodeStats())));
    fs.access(file, FsAction.READ);
    fails(AccessControlException.class, null, () -> eve.access(file, FsAction.WRITE));
    eve.close();
  }

  /** A file is read by others while it is written, and taken from its writer. */
  private void written() throws Exception {
    byte[] data = random(2, 300_000);
    Path path = new Path("/w/f");
    FSDataOutputStream out = fs.create(path, true);
    out.write(data, 0, 100_000);
    out.hflush();
    try (FileSystem other = FileSystem.newInstance(URI.create(uri), conf)) {
      try (FSDataInputStream in = other.open(path)) {
        byte[] seen = in.readAllBytes();
        check(Arrays.equals(Arrays.copyOf(data, 100_000), seen), "what was flushed is seen: " + seen.length);
      }
      fails(AlreadyBeingCreatedException.class, "currently owned by", () -> other.append(path));
      out.write(data, 100_000, 100_001);
      out.hsync();
      try (FSDataInputStream in = other.open(path)) {
        check(Arrays.equals(Arrays.copyOf(data, 200_001), in.readAllBytes()), "and what was synced");
      }
      DistributedFileSystem taker = (DistributedFileSystem) other;
      check(!taker.isFileClosed(path), "it is open");
      long until = System.nanoTime() + 60_000_000_000L;
      while (!taker.recoverLease(path)) {
        check(System.nanoTime() < until, "the lease is recovered in time");
        Thread.yield();
      }
      same(200_001L, taker.getFileStatus(path).getLen());
      check(Arrays.equals(Arrays.copyOf(data, 200_001), read("/w/f")), "nothing is lost");
      try (FSDataOutputStream next = taker.append(path)) {
        next.write(data, 200_001, 99_999);
      }
      check(Arrays.equals(data, read("/w/f")), "the next writer went on");
    }
    fails(IOException.class, null, () -> {
      out.write(data, 0, 100);
      out.hflush();
      out.close();
    });
  }

  /** Writes and reads while others kill servers: says where it is, and goes on when it is told to. */
  private void faults() throws Exception {
    Scanner told = new Scanner(System.in);
    byte[] data = random(3, 20_000_000);
    FSDataOutputStream out = fs.create(new Path("/k/f"), true, 4096, (short) 3, 4 << 20);
    out.write(data, 0, 9_000_000);
    out.hflush();
    System.out.println("WRITING");
    told.nextLine();
    out.write(data, 9_000_000, 11_000_000);
    out.close();
    check(Arrays.equals(data, read("/k/f")), "written with a datanode less");
    FSDataInputStream in = fs.open(new Path("/k/f"));
    byte[] first = new byte[1000];
    in.readFully(first);
    System.out.println("READING");
    told.nextLine();
    byte[] rest = in.readAllBytes();
    check(Arrays.equals(Arrays.copyOfRange(data, 1000, data.length), rest), "read with a datanode less");
    FSDataOutputStream last = fs.create(new Path("/k/g"), true);
    last.write(data, 0, 1000);
    last.hflush();
    System.out.println("CLOSING");
    told.nextLine();
    last.close();
    check(Arrays.equals(Arrays.copyOf(data, 1000), read("/k/g")), "closed by a namenode that was started again");
  }

  private void cat(String path) throws Exception {
    System.out.write(read(path));
    System.out.println();
  }

  private void append(String path, String text) throws Exception {
    try (FSDataOutputStream out = fs.append(new Path(path))) {
      out.write(text.getBytes(StandardCharsets.UTF_8));
      out.hflush();
    }
  }

  private void put(String path, String text) throws Exception {
    write(path, text.getBytes(StandardCharsets.UTF_8));
  }
}
